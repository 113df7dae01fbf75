"""The outputs of training (log, clock, checkpoints) and the state of a command in checkpoints."""

import dataclasses
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import OutputConfig


@dataclasses.dataclass(frozen=True)
class Recorder:
    """The outputs of a loop; every part is optional.

    Attributes:
        log: log of scalars and events.
        watch: wall time in seconds by stage.
        checkpoints: None = no checkpoints.
        output: settings of how often a checkpoint is written.
        bars: show progress bars on stderr.
        profile: folder for the trace of one round; None = no trace.
    """

    log: RunLog = dataclasses.field(default_factory=lambda: RunLog(None))
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    checkpoints: Checkpoints | None = None
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    bars: bool = True
    profile: Path | None = None


@dataclasses.dataclass
class RunState:
    """The state of a run outside the trainer; checkpoints hold it.

    Attributes:
        before: the numbers of the model before unlearning; None = not measured.
        texts: question -> its answer before unlearning; empty if the log holds no text.
        reward_moments: `start`, the scores [N,M] of the first measurement, and `moments`, one entry
            per measurement; None = not measured.
    """

    before: dict[str, Any] | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    reward_moments: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """JSON for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets all fields to the values that `state_dict` returned."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, state[field.name])
