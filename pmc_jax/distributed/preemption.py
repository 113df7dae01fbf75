"""Graceful stop on SIGTERM, SIGHUP and SIGINT.

Schedulers send SIGTERM before they preempt a machine, a terminal that closes sends SIGHUP, and
Ctrl-C sends SIGINT. Inside `handle_signals`, such a signal ends the process at once with the
exception `Stopped`, or after `_LIMIT_SECONDS` if native code does not return to Python. Code that
can save its state runs inside `saving` and calls `check` at safe points. Inside `saving`, the first
signal only makes `check` raise `Preempted`, and a second signal ends the process at once. Outside
`handle_signals`, the signal handlers of the caller stay in place.

All processes of a job pass the same safe points in the same order, so a count identifies a safe
point. After a signal, the watchdog of each process pauses its process and publishes the number of
safe points that the process has passed. All processes then stop at the first safe point that no
process has passed. Without a signal, no process waits for another process.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator

from pmc_jax.distributed import multihost
from pmc_jax.errors import Preempted, Stopped

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")  # Some systems lack some of these signals.
_LIMIT_SECONDS = 7.0
# Some senders send a signal twice, to the process and to its group.
_SAME_SIGNAL_SECONDS = 0.3


class _Stop:
    """State of a request to stop.

    Attributes:
        requested: event that is set after a signal.
        number: number of the signal.
        saving: number of `saving` blocks that the process is in.
        importing: whether the process is in an `importing` block.
        interrupt: function that is called after SIGINT, see `on_interrupt`; None stops the process.
    """

    def __init__(self):
        self.requested = threading.Event()
        self.number = int(signal.SIGTERM)
        self.saving = 0
        self.importing = False
        self.interrupt: Callable[[], None] | None = None


_stop = _Stop()


class _SafePoints:
    """Counter of the safe points that this process has passed.

    Attributes:
        changed: condition that protects the other attributes.
        passed: number of safe points passed.
        paused: whether the process waits at its next safe point until `stop_after` is set.
        stop_after: number of safe points after which the process stops, or None.
    """

    def __init__(self):
        self.changed = threading.Condition()
        self.passed, self.paused, self.stop_after = 0, False, None


_safe_points = _SafePoints()


def handled_signals() -> list[signal.Signals]:
    """Returns the signals of `SIGNALS` that stop this process.

    Signals that the process ignores are left out, except SIGTERM. For example, `nohup` makes a
    process ignore SIGHUP, and a shell makes some background processes ignore SIGINT.
    """
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [n for n in numbers if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]


def hold_signals() -> None:
    """Makes signals wait for `release_signals`, also in a program that this process executes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, handled_signals())


def release_signals() -> None:
    """Delivers the signals that have waited since `hold_signals`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled_signals())


def exit_now(status: int, text: str) -> None:
    """Writes a line to stderr, below a progress bar, and ends this process without clean-up."""
    _write_line(f"\n{text}")
    os._exit(status)


def exit_stopped(stopped: Stopped) -> None:
    """Writes the line of an exception to stderr and ends this process without clean-up."""
    exit_now(stopped.status, stopped.line)


@contextlib.contextmanager
def handle_signals(
    exit_process: Callable[[int, str], None] = exit_now,
    exit_job: Callable[[Stopped], None] = exit_stopped,
) -> Iterator[None]:
    """Stops the code in a `with` block of the main thread when the process receives a signal.

    Args:
        exit_process: function that ends this process with a status and a text. It is called after a
            second signal.
        exit_job: function that ends all processes of the job. It is called if native code of this
            process does not return after a signal.

    Raises:
        Stopped: the process has received a signal outside a `saving` block, or code in the block
            raised an error after a signal.
    """
    _stop.requested.clear()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = {number: signal.signal(number, _on_signal) for number in handled_signals()}
    earlier_end = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    functions = exit_process, exit_job
    watcher = threading.Thread(target=_watch, args=(read_end, before, *functions), daemon=True)
    watcher.start()
    try:
        release_signals()
        yield
    except Exception as error:
        # Native code, such as an extension that is imported, may replace the exception.
        if is_requested():
            raise Stopped(_stop.number) from error
        raise
    finally:
        signal.set_wakeup_fd(earlier_end)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(write_end, b"\0")
        watcher.join()
        os.close(read_end)
        os.close(write_end)
        _stop.requested.clear()


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Defers signals in a `with` block to the next call of `check`.

    Raises:
        Stopped: the only process of a job has received a signal, and the block ended without a
            later call of `check`.
    """
    _stop.saving += 1
    try:
        yield
    finally:
        _stop.saving -= 1
    if not _stop.saving and is_requested() and multihost.count() == 1:
        raise Stopped(_stop.number)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Ends the process without clean-up if a signal arrives in a `with` block.

    An exception would abort the process if it passed through native code that is being loaded.
    """
    _stop.importing = True
    try:
        yield
    finally:
        _stop.importing = False


@contextlib.contextmanager
def on_interrupt(function: Callable[[], None]) -> Iterator[None]:
    """Calls a function in the main thread after each SIGINT in a `with` block.

    SIGINT then does not stop the process, but the function may raise KeyboardInterrupt.
    """
    _stop.interrupt = function
    try:
        yield
    finally:
        _stop.interrupt = None


def is_requested() -> bool:
    """Returns whether this process has received a signal to stop."""
    return _stop.requested.is_set()


def check() -> None:
    """Marks a safe point, at which the caller can save its state and stop.

    Raises:
        Preempted: a process of the job has received a signal, and this process must stop here.
    """
    if multihost.count() == 1:
        if is_requested():
            raise Preempted(_stop.number)
        return
    with _safe_points.changed:
        while _safe_points.paused and _safe_points.stop_after is None:
            _safe_points.changed.wait(1.0)
        if _safe_points.stop_after is not None and _safe_points.passed >= _safe_points.stop_after:
            raise Preempted(_stop.number)
        _safe_points.passed += 1


def pause() -> int:
    """Makes this process wait at its next safe point until `stop_after` is called.

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


def _on_signal(number: int, _: object) -> None:
    if number == signal.SIGINT and _stop.interrupt is not None:
        _stop.interrupt()
        return
    if is_requested():
        return  # `_watch` ends the process after a second signal.
    _stop.number = number
    _stop.requested.set()
    if _stop.importing:
        exit_stopped(Stopped(number))
    if not _stop.saving:
        raise Stopped(number)
    _write_line(
        f"\npmc: the run received {signal.Signals(number).name} and stops after this step and a "
        "checkpoint. Send the signal again to stop at once."
    )


def _watch(
    read_end: int,
    numbers: Collection[int],
    exit_process: Callable[[int, str], None],
    exit_job: Callable[[Stopped], None],
) -> None:
    """Ends the process after a second signal, or if the process continues after the first signal.

    Args:
        read_end: file descriptor of a pipe that receives the number of each signal as a byte, and
            0 at the end.
        numbers: the signals that stop the process.
        exit_process: function that ends this process with a status and a text.
        exit_job: function that ends all processes of the job.
    """
    number, received, must_end = 0, 0.0, False
    while True:
        if select.select([read_end], [], [], 0.1 if number else None)[0]:
            byte = os.read(read_end, 1)[0]
            if not byte:
                return
            if byte == signal.SIGINT and _stop.interrupt is not None:
                continue
            if not number and byte in numbers:
                number, received, must_end = byte, time.monotonic(), not _stop.saving
            elif byte in numbers and time.monotonic() - received > _SAME_SIGNAL_SECONDS:
                exit_process(128 + byte, "pmc: a second signal ended the command at once.")
        # After the signal, `pmc compare` writes its page inside `saving`.
        if must_end and not _stop.saving and time.monotonic() - received > _LIMIT_SECONDS:
            exit_job(Stopped(number))


def _write_line(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
