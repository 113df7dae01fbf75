"""Where training reports to: log, clock, checkpoints."""

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
        host: JSON values of the caller that checkpoints carry along.
        bars: progress bars on stderr.
        profile: folder for the trace of one round; None = none is made.
    """

    log: RunLog = dataclasses.field(default_factory=lambda: RunLog(None))
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    checkpoints: Checkpoints | None = None
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)
    host: dict[str, Any] = dataclasses.field(default_factory=dict)
    bars: bool = True
    profile: Path | None = None
