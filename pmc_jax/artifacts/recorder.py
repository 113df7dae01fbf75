"""Where training reports to: log, clock, checkpoints; and what a command keeps in a checkpoint."""

import dataclasses
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import OutputConfig


@dataclasses.dataclass(frozen=True)
class Recorder:
    """Where a loop reports to; every part may be left out.

    Attributes:
        log: scalars and events.
        watch: seconds by stage.
        checkpoints: None keeps none.
        output: how often to keep one.
        bars: progress bars on stderr.
        profile: folder for the trace of one round; None = none is made.
    """

    log: RunLog = dataclasses.field(default_factory=lambda: RunLog(None))
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    checkpoints: Checkpoints | None = None
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    bars: bool = True
    profile: Path | None = None


@dataclasses.dataclass
class RunState:
    """What a command knows of its run beside the training state; checkpoints hold it.

    Attributes:
        before: the numbers of the model before unlearning; None = not measured.
        texts: question -> its answer before unlearning; empty where the log holds no text.
        reward_moments: `start`, the scores [N,M] of the first measurement, and `moments`, one entry
            a measurement; None = not measured.
    """

    before: dict[str, Any] | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    reward_moments: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """JSON for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replaces all fields by those that `state_dict` returned."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, state[field.name])
