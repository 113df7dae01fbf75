"""Graceful stop on SIGTERM, which schedulers send before they preempt a machine.

Code that can save its state calls `check` at safe points, and `check` raises `Preempted` after a
SIGTERM. Outside of `handle_sigterm`, the signal handlers of the caller stay in place.

All processes of a job pass the same safe points in the same order, so a count identifies a safe
point. After a SIGTERM, the watchdog of each process pauses its process and publishes the number of
safe points that the process has passed. All processes then stop at the first safe point that no
process has passed. Without a SIGTERM, no process waits for another process.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from pmc_jax.distributed import multihost
from pmc_jax.errors import Preempted

_requested = threading.Event()


class _SafePoints:
    """Counter of the safe points that this process has passed."""

    def __init__(self):
        self.changed = threading.Condition()
        self.passed, self.paused, self.stop_after = 0, False, None


_safe_points = _SafePoints()


@contextlib.contextmanager
def handle_sigterm() -> Iterator[None]:
    """Makes SIGTERM request a stop inside a `with` block of the main thread."""
    _requested.clear()
    before = signal.signal(signal.SIGTERM, lambda *_: _requested.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested.clear()


def is_requested() -> bool:
    """Returns whether this process has received SIGTERM."""
    return _requested.is_set()


def check() -> None:
    """Marks a safe point.

    Raises:
        Preempted: a process of the job has received SIGTERM and this process must stop here.
    """
    if multihost.count() == 1:
        if is_requested():
            raise Preempted
        return
    with _safe_points.changed:
        while _safe_points.paused and _safe_points.stop_after is None:
            _safe_points.changed.wait(1.0)
        if _safe_points.stop_after is not None and _safe_points.passed >= _safe_points.stop_after:
            raise Preempted
        _safe_points.passed += 1


def pause() -> int:
    """Pauses this process at its next safe point until `stop_after` is called.

    Returns the number of safe points that this process has passed.
    """
    with _safe_points.changed:
        _safe_points.paused = True
        return _safe_points.passed


def stop_after(passed: int) -> None:
    """Makes this process stop after a number of safe points.

    Args:
        passed: number of safe points that the process passes before the stop.
    """
    with _safe_points.changed:
        _safe_points.stop_after = passed
        _safe_points.changed.notify_all()
