"""Limits on the time and memory of code from a model folder, such as a chat template."""

import contextlib
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

_AGAIN_SECONDS = 0.5
_STATM = Path("/proc/self/statm")


class TooLong(Exception):
    """Error that `time_limit` raises in code that takes too long."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TooLong` in a `with` block after a number of seconds.

    Time is limited only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooLong(f"the code takes longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    # The signal repeats, because Python drops an exception in a callback of the garbage collector.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Raises a `MemoryError` if a `with` block allocates more than `size` bytes.

    Memory is limited only on Linux.
    """
    if not _STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(_STATM.read_text().split()[0]) * resource.getpagesize() + size
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
