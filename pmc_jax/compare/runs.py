"""Lists the runs of a comparison and the folders of its models."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_files
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.run import Config, FinetuneConfig
from pmc_jax.errors import UserError

RUNS = run_files.COMPARED_RUNS  # folder of all runs
REFERENCE = "reference"  # The reference model is the folder `target` in this folder.
NEVER_SAW = "never_saw"  # Each further model is in the folder `seedN/target` in this folder.
# The comparison removes these weights of a measured run, unless `output.keep_models` keeps them.
WEIGHTS = (run_files.CHECKPOINTS, run_files.MODEL, run_files.ADAPTER)


@dataclasses.dataclass(frozen=True)
class Run:
    """Run of one method with one setting and one seed.

    Attributes:
        name: name of the run's folder in `RUNS`.
        entry: key of the method in `methods`.
        trial: index of the setting among the settings of the entry.
        setting: value of each setting of the entry, by name.
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
    """Returns the output folder of the comparison.

    Raises:
        UserError: `output.dir` is not given.
    """
    if not compare.output.dir:
        raise UserError(
            "output.dir: no folder is given. Set output.dir to a folder for the comparison."
        )
    return Path(compare.output.dir)


def target_of(compare: CompareConfig) -> str:
    """Returns the path of the target model, from which all runs start.

    Raises:
        UserError: the settings do not give a model.
    """
    base = compare.base()
    if base.finetune.data:
        return str(folder_of(compare) / run_files.TARGET)
    if not base.model.path:
        raise UserError(
            "run.model.path: no model is given. Set run.model.path to a model folder, a *.gguf "
            "file or a name on the Hugging Face Hub."
        )
    return base.model.path


def reference_of(compare: CompareConfig) -> str | None:
    """Returns the path of the reference model, or None if there is no reference model."""
    if compare.reference.data:
        return str(folder_of(compare) / REFERENCE / run_files.TARGET)
    return compare.reference.path


def never_saw_of(compare: CompareConfig) -> dict[int, Path]:
    """Returns the output folder of each further model that never saw the data, by its seed."""
    seed, parent = compare.base().seed, folder_of(compare) / NEVER_SAW
    return {s: parent / f"seed{s}" for s in range(seed + 1, seed + 1 + compare.reference.seeds)}


def runs_of(compare: CompareConfig) -> list[Run]:
    """Returns all runs, ordered by seed.

    After an interruption, all methods therefore have about the same number of finished runs.
    """
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
    """Returns the settings of a run with the shared target model and its own output folder."""
    folder = folder_of(compare) / RUNS / name
    # A checkpoint at the end would take gigabytes, and nothing resumes from it.
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=target_of(compare)),
        finetune=FinetuneConfig(),
        output=dataclasses.replace(config.output, dir=str(folder), keep=1, checkpoint_end=False),
    )
