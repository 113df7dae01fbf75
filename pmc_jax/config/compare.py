"""Settings of `pmc compare`, which compares unlearning methods that run for the same time each.

Settings have dotted names as on the command line of a run, such as `train.learning_rate`. A list of
values is a search space. docs/reference/comparison.md describes the comparison.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema, shipped
from pmc_jax.config.data import SourceConfig
from pmc_jax.config.evaluate import MEASURE_NAMES
from pmc_jax.config.loader import apply_overrides, read_settings, set_dotted
from pmc_jax.config.method import METHOD_NAMES, TARGET_BASED
from pmc_jax.config.paths import output_setting
from pmc_jax.config.run import Config, config_from_dict
from pmc_jax.config.schema import (
    SEED,
    Section,
    SettingsError,
    above,
    between,
    one_of,
    setting,
)

_NAME = re.compile(r"[A-Za-z0-9_]+")
# The comparison itself sets these settings in every run.
_OWN = ("seed", "profile", "method.name", "method.max_seconds")
_OWN += ("output.dir", "output.keep", "output.checkpoint_end", "report.file")
_OWN += tuple(f"evaluate.{name}" for name in ("every", "at_seconds", "keep_best"))
_OWN += tuple(f"evaluate.{name}" for name in ("measures", "levels.measured"))
_OWN += ("evaluate.reference", "evaluate.make_reference")
# Methods may differ only in these sections. All other sections are the same for every method.
_OF_METHODS = ("pmc", "method", "train")
_MAX_TRIALS = 1000  # This limit holds for each method.
CRITERIA = ("mean", "harmonic_mean", "min")


@dataclass(frozen=True)
class EntryConfig(Section):
    """One method of the comparison with its settings.

    Fields:
        method: name of the method; None selects the name of the entry.
        settings: mapping from names of settings in the sections pmc, method and train to a value or
            to a list of values that are tried.
        num_trials: number of combinations of listed values that are drawn at random; None selects
            all combinations.
    """

    method: str | None = setting(None, one_of(*METHOD_NAMES))
    settings: dict[str, Any] = field(default_factory=dict)
    num_trials: int | None = setting(None, between(1, 1000))

    @property
    def space(self) -> dict[str, list[Any]]:
        """Values to try for each setting; a fixed setting has one value."""
        flat = schema.flatten(self.settings)
        return {n: list(v) if isinstance(v, list | tuple) else [v] for n, v in flat.items()}

    @property
    def size(self) -> int:
        """Number of all combinations."""
        return math.prod(len(values) for values in self.space.values())

    def combination(self, number: int) -> dict[str, Any]:
        """Returns one combination as a dict from the name of a setting to its value.

        Args:
            number: index of the combination, from 0. The value of the last name varies fastest.
        """
        setting = {}
        for name, values in reversed(self.space.items()):
            number, index = divmod(number, len(values))
            setting[name] = values[index]
        return dict(reversed(setting.items()))


@dataclass(frozen=True)
class SearchConfig(Section):
    """The search for the best combination of settings of each method.

    Fields:
        seed: seed with which combinations are drawn, if `num_trials` is set.
        criterion: number that the search maximises, averaged over the seeds: the mean, the
            harmonic_mean or the min of unlearn quality and utility.
    """

    seed: int = setting(0, SEED)
    criterion: str = setting("mean", one_of(*CRITERIA))


@dataclass(frozen=True)
class ReferenceConfig(Section):
    """The reference model, which never saw the forget rows and is the baseline for leakage.

    Fields:
        data: sources of rows on which `run.model.path` is fine-tuned, with the settings of
            `run.finetune`.
        path: folder of an existing reference model; only one of `data` and `path` may be given.
        seeds: number of further models that are trained on these rows with other seeds; the measure
            `indistinguishable` needs at least five.
    """

    data: tuple[SourceConfig, ...] = ()
    path: str | None = None
    seeds: int = setting(0, between(0, 100))

    def cross_faults(self) -> list[str]:
        faults = []
        if self.data and self.path:
            faults.append("path: both path and data are given. Remove one of them.")
        if self.seeds and not self.data:
            faults.append(
                "seeds: no rows are given on which the models can be trained. Set reference.data, "
                "or set seeds to 0 and list existing models in run.evaluate.never_saw."
            )
        return faults


@dataclass(frozen=True)
class ResultsConfig(Section):
    """The folder of a comparison and the files that are kept in it.

    Fields:
        dir: folder of the comparison on this machine.
        keep_models: whether to keep the model of each run; checkpoints are always removed.
    """

    dir: str | None = output_setting(None)
    keep_models: bool = False


@dataclass(frozen=True)
class CompareConfig(Section):
    """A comparison, in which each run has one method, one combination of settings and one seed.

    Fields:
        run: settings that all runs share, or the path of a YAML file with these settings, relative
            to the file of the comparison, or the name of a shipped file such as quickstart.
        settings: mapping from dotted names to values, which replace settings of `run`.
        max_seconds: time limit of each run in seconds of sampling, scoring and training.
        at_seconds: times of further evaluations, each at the end of a round, in seconds below
            `max_seconds`.
        seeds: seeds of the runs; the target model, the reference model and the measures use the
            seed of `run`.
        measures: measures that are computed for each finished run, or all.
        methods: mapping from the names of entries to methods and their settings.
        controls: names of entries that the measure `indistinguishable` must distinguish from
            models that never saw the data; if it does not, the test has no power.
        search, reference, output: sections of the settings.
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
    controls: tuple[str, ...] = ()
    search: SearchConfig = field(default_factory=SearchConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    output: ResultsConfig = field(default_factory=ResultsConfig)

    def cross_faults(self) -> list[str]:
        faults = [*self._faults_of_lists(), *self._faults_of_names()]
        return faults or self._faults_of_budgets() or self._faults_of_runs()

    def _faults_of_lists(self) -> list[str]:
        end = self.max_seconds
        faults = [
            f"at_seconds: the value must be above 0 and below max_seconds ({end:g}), but it is "
            f"{seconds!r}."
            for seconds in self.at_seconds
            if not 0 < seconds < end
        ]
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append(
                "seeds: the list must contain at least one seed and no seed twice, but it is "
                f"{list(self.seeds)}. Correct the list."
            )
        if not self.methods:
            names = ", ".join(METHOD_NAMES)
            faults.append(f"methods: no method is given. Add at least one of {names}.")
        return faults

    def _faults_of_names(self) -> list[str]:
        faults = [
            f"settings.{name}: the comparison sets this value itself. Remove the setting."
            for name in schema.flatten(self.settings)
            if any(name == own or name.startswith(f"{own}.") for own in _OWN)
        ]
        faults += [
            f"controls: no entry of methods has the name {name}. "
            f"{schema.offer(schema.nearest(name, [*self.methods]), [*self.methods])}"
            for name in self.controls
            if name not in self.methods
        ]
        for name, entry in self.methods.items():
            if not _NAME.fullmatch(name):
                faults.append(
                    f"methods.{name}: the name of an entry may contain only letters, digits and _. "
                    "Rename the entry."
                )
            elif self.method_of(name) not in METHOD_NAMES:
                hint = schema.offer(schema.nearest(name, METHOD_NAMES), METHOD_NAMES)
                faults.append(
                    f"methods.{name}: no method has this name. {hint} To keep the name, set "
                    f"methods.{name}.method."
                )
            for key, values in entry.space.items():
                where = f"methods.{name}.settings.{key}"
                if key in _OWN:
                    why = "the comparison sets this value itself"
                    faults.append(f"{where}: {why}. Remove the setting.")
                elif key.split(".")[0] not in _OF_METHODS:
                    why = "methods may differ only in the sections pmc, method and train"
                    faults.append(f"{where}: {why}. Remove the setting.")
                if not values:
                    faults.append(f"{where}: the list is empty. Give at least one value.")
        return faults

    def _faults_of_budgets(self) -> list[str]:
        budgets = {name: entry.num_trials or entry.size for name, entry in self.methods.items()}
        faults = [
            f"methods.{name}.num_trials: at most {most} of the {entry.size} combinations can be "
            f"tried. Set num_trials to at most {most}."
            for name, entry in self.methods.items()
            if budgets[name] > (most := min(entry.size, _MAX_TRIALS))
        ]
        if not faults and len(set(budgets.values()) - {1}) > 1:
            counts = ", ".join(f"{name} {n}" for name, n in budgets.items())
            faults.append(
                f"methods: the methods try different numbers of combinations ({counts}). Set "
                "num_trials to the same number for each method with a list of values."
            )
        return faults

    def _faults_of_runs(self) -> list[str]:
        """Returns faults in the settings of the runs, and faults for missing settings."""
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
                "run.data.forget_answers.path: no path is given, but these methods train on true "
                f"answers: {', '.join(reading)}. Set the path to a file of the forget questions "
                "with their true answers."
            )
        if self.reference.data and not base.finetune.data:
            faults.append(
                "reference.data: run.finetune.data is empty, so no reference model can be trained. "
                "Replace this setting with reference.path, the folder of a reference model."
            )
        return list(dict.fromkeys(faults))

    def method_of(self, name: str) -> str:
        """Returns the name of an entry's method."""
        return self.methods[name].method or name

    def trials_of(self, name: str) -> list[dict[str, Any]]:
        """Returns the combinations that are tried for an entry, each as a dict of settings."""
        entry = self.methods[name]
        numbers = range(entry.size)
        if entry.num_trials is not None:
            rng = random.Random(f"{self.search.seed} {name}")
            numbers = sorted(rng.sample(numbers, entry.num_trials))
        return [entry.combination(number) for number in numbers]

    def base(self) -> Config:
        """Returns the settings that all runs share, which are `run` with the changes in `settings`.

        Raises:
            SettingsError: these settings are invalid.
        """
        return _changed(self.run, schema.flatten(self.settings))

    def settings_of(self, name: str, trial: Mapping[str, Any], seed: int) -> Config:
        """Returns the settings of a run, without its output folder and its model.

        Args:
            name: name of the entry.
            trial: one of the combinations that `trials_of` returns.
            seed: seed of the run.

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
            "evaluate.keep_best": None,
            "evaluate.measures": (),
            "evaluate.levels.measured": (),
            "evaluate.reference": None,
            "evaluate.make_reference": False,
        }
        return _changed(self.run, schema.flatten(self.settings) | dict(trial) | own)


def load_compare(path: str | Path, overrides: Sequence[str] = ()) -> CompareConfig:
    """Reads the settings of a comparison from YAML and applies `section.key=value` overrides.

    Raises:
        UserError: a file cannot be read, or settings or overrides are invalid (the message lists
            all faults).
    """
    path = shipped.find(path)
    raw = read_settings(path)
    if isinstance(raw.get("run"), str):
        raw["run"] = read_settings(shipped.find(raw["run"], folder=path.parent))
    raw, faults = apply_overrides(raw, overrides)
    where = f"{path} with overrides" if overrides else str(path)
    return schema.build(CompareConfig, raw, where=where, faults=faults)


def _changed(run: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """Returns the settings of a run after `changes`, which map dotted names to new values."""
    settings, faults = dict(run), []
    for name, value in changes.items():
        try:
            settings = set_dotted(settings, name, value)
        except LookupError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise SettingsError("run", faults)
    return config_from_dict(settings, where="run")
