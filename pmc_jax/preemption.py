"""A request to stop: SIGTERM, as schedulers send it before they take a machine away.

Whoever can save stops at a safe place: `check` there raises `Preempted`. Outside `listening`
nothing stops, so a library user's own handlers stay.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from pmc_jax.errors import Preempted

_asked = threading.Event()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, SIGTERM asks to stop; for the main thread."""
    _asked.clear()
    before = signal.signal(signal.SIGTERM, lambda *_: _asked.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def check(step: int | None = None) -> None:
    """Raises `Preempted` when the process was asked to stop.

    Args:
        step: of the run, the same in all processes, which then stop at the same one; without it
            only a run of one process stops here.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        stop = step is not None and multihost_utils.reached_preemption_sync_point(step)
    else:
        stop = _asked.is_set()
    if stop:
        raise Preempted
