"""Defines the outputs of a training loop, and the state of a run outside of the trainer."""

import dataclasses
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import OutputConfig


@dataclasses.dataclass(frozen=True)
class Recorder:
    """Log, stopwatch and checkpoints that a training loop uses. Each of the three is optional.

    Attributes:
        log: log of scalars and events.
        watch: stopwatch for the wall time of each stage.
        checkpoints: checkpoints to write; None writes no checkpoints.
        output: settings that determine how often a checkpoint is written.
        bars: whether to show progress bars on stderr.
        profile: folder for the trace of one round; None writes no trace.
    """

    log: RunLog = dataclasses.field(default_factory=lambda: RunLog(None))
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    checkpoints: Checkpoints | None = None
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    bars: bool = True
    profile: Path | None = None


@dataclasses.dataclass
class RunState:
    """State of a run that a checkpoint holds in addition to the state of the trainer.

    Attributes:
        before: results of the evaluation before unlearning; None if the run has no such
            evaluation.
        texts: answers before unlearning by question; empty unless the log contains texts.
        reward_moments: dict with two keys, or None if rewards are not measured. `start` holds the
            scores of the first measurement, as one list of sample scores per forget question.
            `moments` holds one dict per measurement.
        own_pairs: ids, questions and answers of the retain pairs that the target model has answered
            itself; None if `data.retain` is a source of pairs.
    """

    before: dict[str, Any] | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    reward_moments: dict[str, Any] | None = None
    own_pairs: list[list[str]] | None = dataclasses.field(default=None, repr=False)

    def state_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets all fields to the values that `state_dict` returned."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, state[field.name])
