"""Sends the scalars of a run to the trackers in `log.trackers`.

A tracker receives the scalars in `SCALARS` and, if it records settings, those of `shared_settings`.
These are numbers and names of pmc, so a tracker never receives text of the data or of the model,
paths or names of the user.
"""

import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pmc_jax.artifacts import run_files
from pmc_jax.config.run import Config
from pmc_jax.config.schema import Section
from pmc_jax.errors import UserError

UNLEARN, FINETUNE = "unlearn", "finetune"  # Each stage counts its own steps.
SCALARS = {
    UNLEARN: (
        *("collapse_loss", "retain_loss", "forget_loss", "refusal_loss", "gradient_norm"),
        *("learning_rate", "sampled_score", "selected_score", "unreplaced"),
        *("unlearn_quality", "utility", "unlearning_seconds"),
    ),
    FINETUNE: ("finetune_loss", "finetune_gradient_norm", "finetune_learning_rate"),
}


class Tracker(Protocol):
    """Receiver of the scalars of a run."""

    def add(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Records the finite values of one step.

        Raises:
            OSError: a value cannot be recorded.
        """

    def resume(self, stage: str, step: int, sent: Collection[tuple[str, int]]) -> None:
        """Prepares for a run that resumes.

        Args:
            stage: stage that resumes.
            step: step from which the stage resumes.
            sent: name and step of each value after `step` that the interrupted run has recorded.
        """

    def close(self) -> None:
        """Ends the recording. A second call does nothing."""


def check(names: Sequence[str]) -> None:
    """Checks that the packages of the trackers are installed.

    Raises:
        UserError: a package is missing.
    """
    if "wandb" in names and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "log.trackers: the package wandb is not installed. Run pip install wandb, or remove "
            "wandb from the list."
        )


def open_trackers(
    names: Sequence[str], folder: Path, settings: Mapping[str, float | str]
) -> list[Tracker]:
    """Opens the trackers of a run.

    The imports are slow, so an unused tracker is not imported.

    Args:
        names: names of the trackers.
        folder: folder of the run.
        settings: settings of the run that trackers may record (see `shared_settings`).

    Raises:
        UserError: a tracker cannot be opened.
    """
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        from pmc_jax.artifacts.tensorboard import TensorBoard

        trackers.append(TensorBoard(folder / run_files.TENSORBOARD))
    if "wandb" in names:
        from pmc_jax.artifacts.weights_and_biases import WeightsAndBiases

        trackers.append(WeightsAndBiases(folder, settings))
    return trackers


def shared_settings(config: Config) -> dict[str, float | str]:
    """Returns the settings that trackers may record, by dotted name.

    These are the seed, the name of the method and the numbers of the sections that define training.
    """
    numbers: dict[str, float | str] = {"seed": config.seed, "method.name": config.method.name}
    for name in ("pmc", "method", "train", "finetune"):
        numbers |= _numbers(getattr(config, name), f"{name}.")
    return numbers


def _numbers(section: Section, prefix: str) -> Iterator[tuple[str, float]]:
    """Yields the dotted name and the value of each number and truth value in a section."""
    for name, value in vars(section).items():
        if isinstance(value, Section):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
