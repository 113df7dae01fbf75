"""The settings of `pmc compare`: methods, their settings and seeds, under equal wall-clock.

A setting is named as on the command line of a run, `train.learning_rate`; a list of values is a
search space. See docs/compare.md.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema
from pmc_jax.config.evaluate import MEASURES
from pmc_jax.config.loader import apply_overrides, read_settings
from pmc_jax.config.method import METHODS, TARGET_BASED
from pmc_jax.config.run import Config, SourceConfig, config_from_dict
from pmc_jax.config.schema import (
    Check,
    Section,
    SettingsError,
    above,
    at_least,
    between,
    one_of,
    setting,
)

_SEED = between(0, 2**32 - 1)
_METHOD = one_of(*METHODS)
_MEASURE = one_of("all", *MEASURES)
_NAME = re.compile(r"[A-Za-z0-9_]+")
# What a comparison sets itself, of every cell.
_OWN = ("seed", "profile", "method.name", "method.max_seconds")
_OWN += ("output.dir", "output.keep", "output.checkpoint_end", "report.file")
_OWN += tuple(f"evaluate.{name}" for name in ("every", "at_seconds", "measures", "reference"))
# What may differ between methods: the rest is the same for all, or it would be no comparison.
_OF_METHODS = ("pmc", "method", "train")
_MOST = 1000  # settings of a method
RULES = ("mean", "harmonic", "worse")


@dataclass(frozen=True)
class EntryConfig(Section):
    """A method that is compared.

    Fields:
        method: of `method_config.METHODS`; None = the name of the entry.
        settings: name -> value, or a list of values to search; of pmc, method and train.
        trials: settings that are drawn from the grid of these lists; None = the whole grid.
    """

    method: str | None = setting(None, _METHOD)
    settings: dict[str, Any] = field(default_factory=dict)
    trials: int | None = setting(None, at_least(1))

    @property
    def space(self) -> dict[str, list[Any]]:
        """Name -> the values that are searched, one where nothing is."""
        flat = schema.flatten(self.settings)
        return {n: list(v) if isinstance(v, list | tuple) else [v] for n, v in flat.items()}

    @property
    def size(self) -> int:
        """Of the grid of all settings."""
        return math.prod(len(values) for values in self.space.values())

    def at(self, number: int) -> dict[str, Any]:
        """A setting of the grid: name -> value."""
        found = {}
        for name, values in reversed(self.space.items()):
            number, place = divmod(number, len(values))
            found[name] = values[place]
        return dict(reversed(found.items()))


@dataclass(frozen=True)
class SearchConfig(Section):
    """How one of a method's settings is chosen.

    Fields:
        seed: of the draws.
        rule: what is largest for the chosen setting, on average over the seeds: mean, harmonic
            (mean) or worse (the smaller one) of unlearn quality and utility.
    """

    seed: int = setting(0, _SEED)
    rule: str = setting("mean", one_of(*RULES))


@dataclass(frozen=True)
class ReferenceConfig(Section):
    """The model that never saw the forget rows. Without one, limitations have no floor.

    Fields:
        data: sources of rows that the base model is fine-tuned on, by the settings of run.finetune.
        path: folder of a model that is there already.
    """

    data: tuple[SourceConfig, ...] = ()
    path: str | None = None

    def cross_faults(self) -> list[str]:
        return ["path: leave it out where data is given"] if self.data and self.path else []


@dataclass(frozen=True)
class ResultsConfig(Section):
    """Where results go.

    Fields:
        dir: folder of the comparison.
        keep_models: the model of every cell is kept, without its checkpoints.
    """

    dir: str | None = None
    keep_models: bool = False


@dataclass(frozen=True)
class CompareConfig(Section):
    """A comparison: each cell is a run of one method with one setting and one seed.

    Fields:
        run: the settings of a run; in YAML also the name of a file that holds them, beside this.
        settings: name -> value, in place of what `run` says, for every cell.
        seconds: of sampling, scoring and training in every cell.
        at_seconds: when its model is measured before that.
        seeds: of the cells; that of `run` is for the target, the reference and the measures.
        measures: of `evaluate_config.MEASURES`, of every finished cell.
        methods: name of an entry -> the method.
        search, reference, output: sections.
    """

    run: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = setting(120.0, above(0))
    at_seconds: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    measures: tuple[str, ...] = ("multiple_choice", "sampling", "prefill", "side_effects")
    methods: dict[str, EntryConfig] = field(default_factory=dict)
    search: SearchConfig = field(default_factory=SearchConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    output: ResultsConfig = field(default_factory=ResultsConfig)

    def cross_faults(self) -> list[str]:
        faults = [*self._faults_of_lists(), *self._faults_of_names()]
        faults = faults or self._faults_of_budgets()
        return faults or self._faults_of_runs()

    def _faults_of_lists(self) -> list[str]:
        end = self.seconds
        times = Check(f"above 0 and below seconds ({end:g})", lambda value: 0 < value < end)
        faults = [
            f"{name}: expected {check.expected}, got {value!r}"
            for name, check in (
                ("at_seconds", times),
                ("seeds", _SEED),
                ("measures", _MEASURE),
            )
            for value in getattr(self, name)
            if not check.holds(value)
        ]
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append("seeds: expected at least one, each once")
        if not self.methods:
            faults.append(f"methods: expected at least one of {', '.join(METHODS)}")
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
            elif self.method_of(name) not in METHODS:
                guess = schema.nearest(name, METHODS)
                hint = f"did you mean {guess}?" if guess else f"known: {', '.join(METHODS)}"
                faults.append(f"methods.{name}: unknown method, {hint} (or give its method:)")
            for key, values in entry.space.items():
                where = f"methods.{name}.settings.{key}"
                if key in _OWN or key.split(".")[0] not in _OF_METHODS:
                    faults.append(f"{where}: methods differ in pmc, method and train only")
                if not values:
                    faults.append(f"{where}: expected at least one value")
        return faults

    def _faults_of_budgets(self) -> list[str]:
        faults = [
            f"methods.{name}.trials: expected at most {min(entry.size, _MOST)} of the "
            f"{entry.size} of its grid"
            for name, entry in self.methods.items()
            if (entry.trials or min(entry.size, _MOST + 1)) > min(entry.size, _MOST)
        ]
        budgets = {name: len(self.trials_of(name)) for name in self.methods} if not faults else {}
        if len({n for n in budgets.values() if n > 1}) > 1:
            told = ", ".join(f"{name} {n}" for name, n in budgets.items())
            faults.append(
                f"methods: unequal budgets, settings tried: {told}; set trials, so that every "
                "method that is searched tries as many"
            )
        return faults

    def _faults_of_runs(self) -> list[str]:
        """Those of the runs' own settings, and what these lack for a comparison."""
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
                "run.data.targets.path: not given; name the forget questions with their true "
                f"answers, on which these train: {', '.join(reading)}"
            )
        if self.reference.data and not base.finetune.data:
            faults.append(
                "reference.data: run.finetune.data is empty, so no target is made that a reference "
                "could be made beside; name one that is there in reference.path"
            )
        return list(dict.fromkeys(faults))

    def method_of(self, name: str) -> str:
        """The method of an entry."""
        return self.methods[name].method or name

    def trials_of(self, name: str) -> list[dict[str, Any]]:
        """The settings of an entry that are tried: name -> value."""
        entry = self.methods[name]
        numbers = range(entry.size)
        if entry.trials is not None:
            rng = random.Random(f"{self.search.seed} {name}")
            numbers = sorted(rng.sample(numbers, entry.trials))
        return [entry.at(i) for i in numbers]

    def base(self) -> Config:
        """The settings that all cells share.

        Raises:
            SettingsError: they are at fault.
        """
        return _config(self.run, schema.flatten(self.settings))

    def settings_of(self, name: str, trial: Mapping[str, Any], seed: int) -> Config:
        """The settings of a cell, but for its folder and its model.

        Raises:
            SettingsError: they are at fault.
        """
        own = {
            "seed": seed,
            "profile": False,
            "method.name": self.method_of(name),
            "method.max_seconds": self.seconds,
            "evaluate.every": 0,
            "evaluate.at_seconds": list(self.at_seconds),
            "evaluate.measures": [],
            "evaluate.reference": None,
        }
        return _config(self.run, schema.flatten(self.settings) | dict(trial) | own)


def load_compare(path: str | Path, overrides: Sequence[str] = ()) -> CompareConfig:
    """The settings of a comparison from a YAML file, changed by `section.key=value` texts.

    Raises:
        UserError: a file cannot be read, or settings or overrides are at fault: every fault in one
            line.
    """
    raw = read_settings(path)
    if isinstance(raw.get("run"), str):
        raw["run"] = read_settings(Path(path).parent / raw["run"])
    raw, faults = apply_overrides(raw, overrides)
    where = f"{path} with overrides" if overrides else str(path)
    return schema.build(CompareConfig, raw, where=where, faults=faults)


def _config(run: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    texts = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
    raw, faults = apply_overrides(dict(run), texts)
    if faults:
        raise SettingsError("run", faults)
    return config_from_dict(raw, where="run")
