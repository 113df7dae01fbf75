"""The runs of a comparison."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.run import Config, FinetuneConfig
from pmc_jax.errors import UserError

RUNS = "runs"  # a folder of runs
REFERENCE = "reference"  # its `target` is the model that never saw the forget rows
# Weights of a run; the comparison removes them once the run is measured.
WEIGHTS = (run_folder.CHECKPOINTS, run_folder.MODEL, run_folder.ADAPTER)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one method.

    Attributes:
        name: name of its folder under `RUNS`.
        entry: its key in `methods`.
        trial: index of its setting among the settings of the entry.
        setting: name -> value.
        seed: seed of unlearning.
        config: settings of the run.
    """

    name: str
    entry: str
    trial: int
    setting: Mapping[str, Any]
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        return Path(self.config.output.dir)


def folder_of(compare: CompareConfig) -> Path:
    """The output folder of the comparison.

    Raises:
        UserError: `output.dir` is not given.
    """
    if not compare.output.dir:
        raise UserError("output.dir: not given; name the folder for the comparison")
    return Path(compare.output.dir)


def target_of(compare: CompareConfig) -> str:
    """Folder of the model from which all runs start."""
    base = compare.base()
    if base.finetune.data:
        return str(folder_of(compare) / run_folder.TARGET)
    if not base.model.path:
        raise UserError("run.model.path: not given; name the model that is to forget")
    return base.model.path


def reference_of(compare: CompareConfig) -> str | None:
    """Folder of the model that never saw the forget rows; None without a reference."""
    if compare.reference.data:
        return str(folder_of(compare) / REFERENCE / run_folder.TARGET)
    return compare.reference.path


def runs_of(compare: CompareConfig) -> list[Run]:
    """All runs in order of seeds, so that an interruption leaves all methods with equally many."""
    runs = []
    for seed in compare.seeds:
        for entry in compare.methods:
            trials = compare.trials_of(entry)
            for number, setting in enumerate(trials):
                name = f"{entry}-{number}-seed{seed}" if len(trials) > 1 else f"{entry}-seed{seed}"
                config = _in_own_folder(compare, compare.settings_of(entry, setting, seed), name)
                runs.append(Run(name, entry, number, setting, seed, config))
    return runs


def _in_own_folder(compare: CompareConfig, config: Config, name: str) -> Config:
    """The settings of a run that starts from the shared target and writes to its own folder."""
    folder = folder_of(compare) / RUNS / name
    # No checkpoint at the end: it takes gigabytes, and the run is measured at once.
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=target_of(compare)),
        finetune=FinetuneConfig(),
        output=dataclasses.replace(config.output, dir=str(folder), keep=1, checkpoint_end=False),
    )
