"""A request to stop: SIGTERM, as schedulers send it before they take a machine away.

Whoever can save stops at a safe place: `check` there raises `Preempted`. Outside `handle_sigterm`
nothing stops, so a library user's own handlers stay.

Several processes pass the same safe places in the same order, so a number names one. The request
of one reaches the `watch` threads of all; each says how many places its process has passed, and
from then on lets it pass no further one until all have said so. They stop at the first place that
none of them has passed. No process waits for another before there is a request.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from pmc_jax.distributed import multihost
from pmc_jax.errors import Preempted

_asked = threading.Event()


class _Places:
    """The safe places of this process."""

    def __init__(self):
        self.changed = threading.Condition()
        self.passed, self.held, self.stop_after = 0, False, None


_places = _Places()


@contextlib.contextmanager
def handle_sigterm() -> Iterator[None]:
    """Inside, SIGTERM asks to stop; for the main thread."""
    _asked.clear()
    before = signal.signal(signal.SIGTERM, lambda *_: _asked.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def is_asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked.is_set()


def check() -> None:
    """A safe place: raises `Preempted` when a process of the job was asked to stop."""
    if multihost.count() == 1:
        if is_asked():
            raise Preempted
        return
    with _places.changed:
        while _places.held and _places.stop_after is None:
            _places.changed.wait(1.0)
        if _places.stop_after is not None and _places.passed >= _places.stop_after:
            raise Preempted
        _places.passed += 1


def hold() -> int:
    """How many safe places were passed; no further one is before `stop_after`."""
    with _places.changed:
        _places.held = True
        return _places.passed


def stop_after(passed: int) -> None:
    """The processes stop once each has passed so many safe places."""
    with _places.changed:
        _places.stop_after = passed
        _places.changed.notify_all()
