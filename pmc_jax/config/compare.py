"""The settings of `pmc compare`: methods, their settings and seeds, under equal wall-clock time.

A setting is named as on the command line of a run, `train.learning_rate`; a list of values is a
search space. See docs/reference/comparison.md.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema
from pmc_jax.config.evaluate import MEASURE_NAMES
from pmc_jax.config.loader import apply_overrides, read_settings, set_dotted
from pmc_jax.config.method import METHOD_NAMES, TARGET_BASED
from pmc_jax.config.run import Config, SourceConfig, config_from_dict
from pmc_jax.config.schema import (
    SEED,
    Section,
    SettingsError,
    above,
    at_least,
    one_of,
    setting,
)

_NAME = re.compile(r"[A-Za-z0-9_]+")
# Settings of every run that the comparison sets itself.
_OWN = ("seed", "profile", "method.name", "method.max_seconds")
_OWN += ("output.dir", "output.keep", "output.checkpoint_end", "report.file")
_OWN += tuple(f"evaluate.{name}" for name in ("every", "at_seconds", "measures", "reference"))
# Sections in which methods may differ: all others are the same for every method.
_OF_METHODS = ("pmc", "method", "train")
_MAX_TRIALS = 1000  # of one method
CRITERIA = ("mean", "harmonic_mean", "min")


@dataclass(frozen=True)
class EntryConfig(Section):
    """One method of the comparison.

    Fields:
        method: the method; None = the name of the entry.
        settings: name -> value, or a list of values to search; names are in the sections pmc,
            method and train.
        num_trials: number of combinations of the listed values, drawn at random; None = all.
    """

    method: str | None = setting(None, one_of(*METHOD_NAMES))
    settings: dict[str, Any] = field(default_factory=dict)
    num_trials: int | None = setting(None, at_least(1))

    @property
    def space(self) -> dict[str, list[Any]]:
        """Name -> the values to search; one value if the setting is fixed."""
        flat = schema.flatten(self.settings)
        return {n: list(v) if isinstance(v, list | tuple) else [v] for n, v in flat.items()}

    @property
    def size(self) -> int:
        """The number of all combinations."""
        return math.prod(len(values) for values in self.space.values())

    def combination(self, number: int) -> dict[str, Any]:
        """Combination `number` (from 0), name -> value; the last name varies fastest."""
        setting = {}
        for name, values in reversed(self.space.items()):
            number, index = divmod(number, len(values))
            setting[name] = values[index]
        return dict(reversed(setting.items()))


@dataclass(frozen=True)
class SearchConfig(Section):
    """How the search chooses among the combinations of a method's settings.

    Fields:
        seed: seed of the random draws.
        criterion: what the search maximises, averaged over the seeds: the mean, the harmonic_mean
            or the min of unlearn quality and utility.
    """

    seed: int = setting(0, SEED)
    criterion: str = setting("mean", one_of(*CRITERIA))


@dataclass(frozen=True)
class ReferenceConfig(Section):
    """A model that never saw the forget rows; without it, leakage has no baseline.

    Fields:
        data: sources of rows to fine-tune the base model on, with the settings of run.finetune.
        path: folder of an existing model.
    """

    data: tuple[SourceConfig, ...] = ()
    path: str | None = None

    def cross_faults(self) -> list[str]:
        return ["path: leave it out where data is given"] if self.data and self.path else []


@dataclass(frozen=True)
class ResultsConfig(Section):
    """Where the results of a comparison go.

    Fields:
        dir: folder of the comparison.
        keep_models: keep the model of every run; its checkpoints are always removed.
    """

    dir: str | None = None
    keep_models: bool = False


@dataclass(frozen=True)
class CompareConfig(Section):
    """A comparison; each run has one method, one combination of its settings and one seed.

    Fields:
        run: the settings of a run; in YAML also the path of a file with them, relative to this
            file.
        settings: name -> value, which replaces the setting of `run` in every run.
        max_seconds: seconds of sampling, scoring and training in every run.
        at_seconds: times in seconds at which the model is also measured.
        seeds: seeds of the runs; the target, the reference and the measures use the seed of `run`.
        measures: measures to compute for every finished run, or all.
        methods: name of an entry -> the method and its settings.
        search, reference, output: sections.
    """

    run: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    max_seconds: float = setting(120.0, above(0))
    at_seconds: tuple[float, ...] = ()
    seeds: tuple[int, ...] = setting((0,), SEED)
    measures: tuple[str, ...] = setting(
        ("multiple_choice", "sampling", "prefill", "side_effects"), one_of("all", *MEASURE_NAMES)
    )
    methods: dict[str, EntryConfig] = field(default_factory=dict)
    search: SearchConfig = field(default_factory=SearchConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    output: ResultsConfig = field(default_factory=ResultsConfig)

    def cross_faults(self) -> list[str]:
        faults = [*self._faults_of_lists(), *self._faults_of_names()]
        return faults or self._faults_of_budgets() or self._faults_of_runs()

    def _faults_of_lists(self) -> list[str]:
        end = self.max_seconds
        faults = [
            f"at_seconds: expected above 0 and below max_seconds ({end:g}), got {seconds!r}"
            for seconds in self.at_seconds
            if not 0 < seconds < end
        ]
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append("seeds: expected at least one, each once")
        if not self.methods:
            faults.append(f"methods: expected at least one of {', '.join(METHOD_NAMES)}")
        return faults

    def _faults_of_names(self) -> list[str]:
        faults = [
            f"settings.{name}: a comparison sets this itself"
            for name in schema.flatten(self.settings)
            if any(name == own or name.startswith(f"{own}.") for own in _OWN)
        ]
        for name, entry in self.methods.items():
            if not _NAME.fullmatch(name):
                faults.append(f"methods.{name}: expected a name of letters, digits and _")
            elif self.method_of(name) not in METHOD_NAMES:
                hint = schema.offer(schema.nearest(name, METHOD_NAMES), METHOD_NAMES)
                faults.append(f"methods.{name}: unknown method, {hint} (or give its method:)")
            for key, values in entry.space.items():
                where = f"methods.{name}.settings.{key}"
                if key in _OWN or key.split(".")[0] not in _OF_METHODS:
                    faults.append(f"{where}: methods differ in pmc, method and train only")
                if not values:
                    faults.append(f"{where}: expected at least one value")
        return faults

    def _faults_of_budgets(self) -> list[str]:
        budgets = {name: entry.num_trials or entry.size for name, entry in self.methods.items()}
        faults = [
            f"methods.{name}.num_trials: expected at most {most} of the {entry.size} combinations"
            for name, entry in self.methods.items()
            if budgets[name] > (most := min(entry.size, _MAX_TRIALS))
        ]
        if not faults and len(set(budgets.values()) - {1}) > 1:
            counts = ", ".join(f"{name} {n}" for name, n in budgets.items())
            faults.append(
                f"methods: unequal budgets, settings tried: {counts}; set num_trials, so that "
                "every method that is searched tries equally many"
            )
        return faults

    def _faults_of_runs(self) -> list[str]:
        """Faults in the settings of the runs, and settings that the comparison lacks."""
        try:
            base = self.base()
        except SettingsError as error:
            return [f"run.{fault}" for fault in error.faults]
        faults = []
        for name in self.methods:
            for trial in self.trials_of(name):
                try:
                    self.settings_of(name, trial, self.seeds[0])
                except SettingsError as error:
                    faults += [f"methods.{name}.settings.{fault}" for fault in error.faults]
        reading = [name for name in self.methods if self.method_of(name) in TARGET_BASED]
        if reading and base.data.forget_answers.path is None:
            faults.append(
                "run.data.forget_answers.path: not given; name the forget questions with their "
                f"true answers, which these methods train on: {', '.join(reading)}"
            )
        if self.reference.data and not base.finetune.data:
            faults.append(
                "reference.data: run.finetune.data is empty, so no target and no reference is "
                "trained; name an existing reference in reference.path"
            )
        return list(dict.fromkeys(faults))

    def method_of(self, name: str) -> str:
        """The method of an entry."""
        return self.methods[name].method or name

    def trials_of(self, name: str) -> list[dict[str, Any]]:
        """The combinations of an entry that are tried, each name -> value."""
        entry = self.methods[name]
        numbers = range(entry.size)
        if entry.num_trials is not None:
            rng = random.Random(f"{self.search.seed} {name}")
            numbers = sorted(rng.sample(numbers, entry.num_trials))
        return [entry.combination(number) for number in numbers]

    def base(self) -> Config:
        """The settings that all runs share.

        Raises:
            SettingsError: these settings are invalid.
        """
        return _changed(self.run, schema.flatten(self.settings))

    def settings_of(self, name: str, trial: Mapping[str, Any], seed: int) -> Config:
        """The settings of a run, except its folder and its model.

        Raises:
            SettingsError: these settings are invalid.
        """
        own = {
            "seed": seed,
            "profile": False,
            "method.name": self.method_of(name),
            "method.max_seconds": self.max_seconds,
            "evaluate.every": 0,
            "evaluate.at_seconds": self.at_seconds,
            "evaluate.measures": (),
            "evaluate.reference": None,
        }
        return _changed(self.run, schema.flatten(self.settings) | dict(trial) | own)


def load_compare(path: str | Path, overrides: Sequence[str] = ()) -> CompareConfig:
    """Reads the settings of a comparison from YAML; applies `section.key=value` overrides.

    Raises:
        UserError: a file cannot be read, or settings or overrides are invalid; one line lists all
            faults.
    """
    raw = read_settings(path)
    if isinstance(raw.get("run"), str):
        raw["run"] = read_settings(Path(path).parent / raw["run"])
    raw, faults = apply_overrides(raw, overrides)
    where = f"{path} with overrides" if overrides else str(path)
    return schema.build(CompareConfig, raw, where=where, faults=faults)


def _changed(run: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The settings of a run with `changes`, dotted name -> value."""
    settings, faults = dict(run), []
    for name, value in changes.items():
        try:
            settings = set_dotted(settings, name, value)
        except LookupError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise SettingsError("run", faults)
    return config_from_dict(settings, where="run")
