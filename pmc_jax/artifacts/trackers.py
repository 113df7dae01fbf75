"""Sends the scalars of a run to the trackers in `log.trackers`.

A tracker receives the scalars in `SCALARS` and, if it records settings, those of `config.public`.
These are numbers and names of pmc, so a tracker never receives text of the data or of the model,
paths or names of the user.
"""

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pmc_jax.artifacts import run_files
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
        settings: settings of the run that trackers may record (see `config.public`).

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
