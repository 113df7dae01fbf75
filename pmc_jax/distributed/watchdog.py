"""Failure detection for multi-process jobs: if one dies, all others exit and report it once.

A thread of each process writes heartbeats to the key-value store and reads those of the others.
Process 0 publishes a verdict that all processes follow: which process failed, the exit status and
the message. If process 0 itself dies, jax ends the others, and `supervisor` reports it. The same
thread passes a request to stop from one process to all others, see `preemption`.
"""

import dataclasses
import json
import os
import select
import socket
import sys
import threading
import time
import traceback
from typing import Any, NamedTuple, NoReturn

from pmc_jax.distributed import multihost, preemption
from pmc_jax.distributed.supervisor import Parent
from pmc_jax.errors import UserError

# A process without a heartbeat for this long counts as dead.
_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5
# Several processes often find the same bad input: process 0 has this long to report it.
_GRACE_SECONDS = 2.0
_FOLDER = "pmc/live/"
# Errors of the runtime that do not mean that another process has died.
_OWN_ERRORS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")


def timeout() -> float:
    """Seconds without a heartbeat after which a process counts as dead: `PMC_HOST_SECONDS`."""
    return multihost.seconds_of("PMC_HOST_SECONDS", _TIMEOUT_SECONDS)


class ExitReport(NamedTuple):
    """What ended the work of a process.

    Attributes:
        status: exit status.
        here: text that this process prints.
        elsewhere: text that the others print after the name of this process; "" = nothing.
    """

    status: int
    here: str
    elsewhere: str


def exit_report(error: BaseException, *, interrupted: str) -> ExitReport:
    """Describes an error: only one process prints bad input; one process prints a traceback, and
    every other one a single line.
    """
    if isinstance(error, UserError):
        return ExitReport(2, f"pmc: error: {error}", "")
    if isinstance(error, KeyboardInterrupt):
        return ExitReport(130, interrupted, "was interrupted")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    here = "".join(traceback.format_exception(error)).rstrip()
    return ExitReport(1, here, f"failed: {text[:300]}")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a process ends.

    Attributes:
        process: index of the process.
        status: exit status.
        line: text that the others print; "" = nothing.
        is_secondary: whether another process's death may be the cause.
        has_ended: whether the process has already ended.
    """

    process: int
    status: int
    line: str
    is_secondary: bool = False
    has_ended: bool = False


class Watchdog(threading.Thread):
    """Watches the other processes until `stop`.

    Args:
        parent: pipes to the parent of this process.
        seconds: see `timeout`.
    """

    def __init__(self, parent: Parent, seconds: float):
        super().__init__(name="watchdog", daemon=True)
        self._parent, self._timeout = parent, seconds
        self._store, self._index = multihost.store(), multihost.index()
        self._count = multihost.count()
        # Less often with many processes: all of them query the first one.
        self._poll = max(min(_POLL_SECONDS, seconds / 10), self._count / 256)
        self._hosts = multihost.gather(socket.gethostname())
        self._parent.announce(self._index, self._hosts)
        self._heartbeats: dict[int, tuple[str, float]] = {}  # newest heartbeat and its time
        self._checked_at = time.monotonic()
        self._failed_at: float | None = None
        self._text = ""  # text that this process prints for its own fault
        self._exiting = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        heartbeat = 0
        while not self._stopped.wait(self._poll):
            heartbeat += 1
            try:
                self._check(heartbeat)
            except Exception as error:  # the store does not answer
                if self._stopped.is_set():
                    return
                lost = f"lost its key-value store: {error}"
                line = "died: the connection to it was lost" if self._index else lost
                self._exit(Fault(0, 1, line))

    def stop(self) -> None:
        """Stops the thread; called when all processes have finished."""
        self._stopped.set()
        self.join()

    def fail(self, error: BaseException, report: ExitReport) -> NoReturn:
        """Ends this process and all others, for this error or for the fault of another process
        that caused it.
        """
        self._text = report.here
        secondary = _is_secondary(error)
        fault = Fault(self._index, report.status, report.elsewhere, is_secondary=secondary)
        try:
            self._publish(f"fault/{self._index}", dataclasses.asdict(fault))
            # The thread ends the process during this sleep, once there is a verdict.
            time.sleep(self._timeout + 10 * self._poll + _GRACE_SECONDS)
        except Exception:
            time.sleep(2 * self._poll)
        self._exit(fault)

    def _check(self, heartbeat: int) -> None:
        """Writes a heartbeat, reads what the others have published, and acts on it."""
        self._publish(f"heartbeat/{self._index}", heartbeat)
        if preemption.is_requested():
            self._publish("stop", 1)
        published = self._read()
        if "stop" in published:
            self._agree_on_stop(published)
        if "verdict" in published:
            self._exit(Fault(**published["verdict"]))
        parent_died = select.select([self._parent.alive], [], [], 0)[0]
        if parent_died:
            fault = Fault(self._index, 1, "was killed", has_ended=True)
            if self._index == 0:
                self.publish_verdict(fault)
            self._publish(f"fault/{self._index}", dataclasses.asdict(fault))
            os._exit(1)
        if self._index == 0:
            self._decide(published)

    def _read(self) -> dict[str, Any]:
        entries = self._store.key_value_dir_get(_FOLDER)
        return {key.removeprefix(_FOLDER): json.loads(value) for key, value in entries}

    def _publish(self, name: str, value: Any) -> None:
        self._store.key_value_set(_FOLDER + name, json.dumps(value), allow_overwrite=True)

    def _agree_on_stop(self, published: dict[str, Any]) -> None:
        if f"passed/{self._index}" not in published:
            self._publish(f"passed/{self._index}", preemption.pause())
        passed = [published.get(f"passed/{i}") for i in range(self._count)]
        if None not in passed:
            preemption.stop_after(max(passed))

    def _decide(self, published: dict[str, Any]) -> None:
        """Process 0 publishes the verdict once it is clear which process failed first."""
        now = time.monotonic()
        silent = self._silent_processes(published, now)
        faults = [Fault(**value) for name, value in published.items() if name.startswith("fault/")]
        faults.sort(key=lambda fault: (fault.is_secondary, fault.process))
        if faults and self._failed_at is None:
            self._failed_at = now
        waited = now - self._failed_at if faults else 0.0
        primary = [fault for fault in faults if not fault.is_secondary]
        if primary and (
            primary[0].process == 0 or primary[0].status != 2 or waited > _GRACE_SECONDS
        ):
            self.publish_verdict(primary[0])
        elif silent:
            line = f"died: no heartbeat for {self._timeout:g} s"
            self.publish_verdict(Fault(silent[0], 1, line, has_ended=True))
        # A death would have been detected by now, so the fault is not secondary after all.
        elif waited > self._timeout + 4 * self._poll:
            self.publish_verdict(faults[0])

    def _silent_processes(self, published: dict[str, Any], now: float) -> list[int]:
        if now - self._checked_at > self._timeout / 2:  # this process was suspended, not the others
            self._heartbeats.clear()
        self._checked_at, silent = now, []
        for i in range(1, self._count):
            heartbeat = str(published.get(f"heartbeat/{i}"))
            if i not in self._heartbeats or self._heartbeats[i][0] != heartbeat:
                self._heartbeats[i] = heartbeat, now
            elif now - self._heartbeats[i][1] > self._timeout and f"left/{i}" not in published:
                silent.append(i)
        return silent

    def publish_verdict(self, verdict: Fault) -> NoReturn:
        """Ends all processes for this fault; called by process 0."""
        self._publish("verdict", dataclasses.asdict(verdict))
        # The store ends with this process, so the others must read the verdict first.
        deadline = time.monotonic() + min(self._timeout, 10 * self._poll)
        ended = {verdict.process} if verdict.has_ended else set()
        others = {f"left/{i}" for i in {*range(1, self._count)} - ended}
        while time.monotonic() < deadline and not others <= self._read().keys():
            time.sleep(self._poll / 4)
        self._exit(verdict)

    def _exit(self, fault: Fault) -> NoReturn:
        self._exiting.acquire()  # never released: one thread ends the process
        if fault.process == self._index and self._text:
            text = self._text
        elif fault.line:
            host = self._hosts[fault.process]
            text = f"pmc: error: process {fault.process} ({host}) {fault.line}"
        else:
            text = ""
        if text and not self._text and multihost.is_first():
            print(file=sys.stderr)  # ends the line of a progress bar
        try:
            if self._index != 0:
                self._publish(f"left/{self._index}", 1)
        finally:
            self._parent.exit(fault.status, text)


def _is_secondary(error: BaseException | None) -> bool:
    """Whether a runtime call failed in a way that another process's death can cause."""
    while error is not None:
        if type(error).__name__ == "JaxRuntimeError" and not str(error).startswith(_OWN_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False
