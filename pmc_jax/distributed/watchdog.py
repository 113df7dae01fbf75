"""Failure detection for multi-process jobs: if one process fails, all other processes exit.

A thread of each process writes heartbeats to the key-value store and reads the heartbeats of other
processes. Process 0 publishes a verdict that names the failed process, the exit status and the
message, and all processes follow the verdict. If process 0 ends without a verdict, jax ends all
other processes, and `supervisor` reports the failure. The thread also sends a request to stop to
all processes (see `preemption`).
"""

import dataclasses
import json
import os
import select
import socket
import sys
import threading
import time
from typing import Any, NamedTuple, NoReturn

from pmc_jax.distributed import multihost, preemption
from pmc_jax.distributed.supervisor import RESUME, Parent
from pmc_jax.errors import Stopped, UserError, fault_of_machine, public_text, traceback_text

# A process counts as failed after this time without a heartbeat.
_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5
# Several processes often find the same bad input, so process 0 has this time to report it.
_GRACE_SECONDS = 2.0
_FOLDER = "pmc/live/"
# These errors of jax's runtime have causes in the process itself.
_OWN_ERRORS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")


def timeout() -> float:
    """Returns the time in seconds without a heartbeat after which a process counts as failed.

    The environment variable `PMC_HOST_SECONDS` sets this time.
    """
    return multihost.seconds_of("PMC_HOST_SECONDS", _TIMEOUT_SECONDS)


class ExitReport(NamedTuple):
    """Exit status and messages of a process whose work has failed.

    Attributes:
        status: exit status.
        here: text that this process prints.
        elsewhere: text that other processes print after the name of this process, or "" if they
            print nothing.
    """

    status: int
    here: str
    elsewhere: str


def exit_report(error: BaseException) -> ExitReport:
    """Returns the exit status and the messages for an error that ends this process.

    Only one process reports bad input or a fault of a machine. After a signal, every process prints
    one line. For any other error, this process prints a traceback and all other processes print one
    line.

    Args:
        error: error that ends this process.
    """
    if fault := error if isinstance(error, UserError) else fault_of_machine(error):
        return ExitReport(2, f"pmc: error: {fault}", "")
    if isinstance(error, Stopped):
        return ExitReport(
            error.status, error.line, "received a signal and stopped. Run the same command again."
        )
    text = " ".join(public_text(error).split())
    return ExitReport(
        1, traceback_text(error), f"failed ({text[:300]}). Read the log of that process."
    )


@dataclasses.dataclass(frozen=True)
class Fault:
    """Failure of one process, which the processes of a job report to each other.

    Attributes:
        process: index of the failed process.
        status: exit status.
        line: text that other processes print after the name of the process, or "" if they print
            nothing.
        is_secondary: whether the failure of another process may have caused this failure.
        has_ended: whether the process has already ended.
    """

    process: int
    status: int
    line: str
    is_secondary: bool = False
    has_ended: bool = False


class Watchdog(threading.Thread):
    """Thread that watches all other processes of a job until `stop` is called.

    Args:
        parent: pipes to the parent of this process.
        seconds: number of seconds without a heartbeat after which a process counts as failed.
    """

    def __init__(self, parent: Parent, seconds: float):
        super().__init__(name="watchdog", daemon=True)
        self._parent, self._timeout = parent, seconds
        self._store, self._index = multihost.store(), multihost.index()
        self._count = multihost.count()
        # All processes query process 0, so large jobs query less often.
        self._poll = max(min(_POLL_SECONDS, seconds / 10), self._count / 256)
        self._hosts: dict[int, str] = {}  # These hosts have published their names.
        # This dict holds the newest heartbeat of each process and the time at which it was read.
        self._heartbeats: dict[int, tuple[str, float]] = {}
        self._checked_at = time.monotonic()
        self._failed_at: float | None = None
        self._text = ""  # This process prints this text if it fails itself.
        self._exiting = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        heartbeat = 0
        while not self._stopped.wait(self._poll):
            heartbeat += 1
            try:
                self._check(heartbeat)
            except Exception as error:  # The store does not respond.
                if self._stopped.is_set():
                    return
                reason = " ".join(str(error).split())
                lost = f"lost its key-value store ({reason}). {RESUME}"
                line = f"closed its connection. {RESUME}" if self._index else lost
                self._exit(Fault(0, 1, line))

    def stop(self) -> None:
        """Stops the thread. All processes must have finished before this call."""
        self._stopped.set()
        self.join()

    def fail(self, error: BaseException, report: ExitReport) -> NoReturn:
        """Ends all processes because of an error in this process.

        If the failure of another process has caused the error, the processes report that failure.
        """
        self._text = report.here
        secondary = _is_secondary(error)
        fault = Fault(self._index, report.status, report.elsewhere, is_secondary=secondary)
        try:
            self._publish(f"fault/{self._index}", dataclasses.asdict(fault))
            # The thread ends the process during this sleep, once a verdict is published.
            time.sleep(self._timeout + 10 * self._poll + _GRACE_SECONDS)
        except Exception:
            time.sleep(2 * self._poll)
        self._exit(fault)

    def _check(self, heartbeat: int) -> None:
        """Writes a heartbeat, and acts on the heartbeats, faults and requests of all processes."""
        if heartbeat == 1:
            self._publish(f"host/{self._index}", socket.gethostname())
        self._publish(f"heartbeat/{self._index}", heartbeat)
        if preemption.is_requested():
            self._publish("stop", 1)
        published = self._read()
        if len(self._hosts) < self._count:
            names = {i: published.get(f"host/{i}") for i in range(self._count)}
            known = {i: name for i, name in names.items() if name is not None}
            if known != self._hosts:
                self._hosts = known
                self._parent.announce(self._index, known)
        if "stop" in published:
            self._agree_on_stop(published)
        if "verdict" in published:
            self._exit(Fault(**published["verdict"]))
        parent_died = select.select([self._parent.alive], [], [], 0)[0]
        if parent_died:
            fault = Fault(self._index, 1, f"was killed. {RESUME}", has_ended=True)
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
        """Publishes a verdict once the process that caused the failure is known.

        Only process 0 calls this method.
        """
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
            line = f"has sent no heartbeat for {self._timeout:g} s. {RESUME}"
            self.publish_verdict(Fault(silent[0], 1, line, has_ended=True))
        # No other process has failed within the timeout, so the fault is not secondary.
        elif waited > self._timeout + 4 * self._poll:
            self.publish_verdict(faults[0])

    def _silent_processes(self, published: dict[str, Any], now: float) -> list[int]:
        if now - self._checked_at > self._timeout / 2:
            # This process was suspended, so the ages of the heartbeats are wrong.
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
        """Publishes a fault as the verdict that ends all processes, and ends this process.

        Only process 0 calls this method.
        """
        self._publish("verdict", dataclasses.asdict(verdict))
        # The store ends with this process, so the others must read the verdict first.
        deadline = time.monotonic() + min(self._timeout, 10 * self._poll)
        ended = {verdict.process} if verdict.has_ended else set()
        others = {f"left/{i}" for i in {*range(1, self._count)} - ended}
        while time.monotonic() < deadline and not others <= self._read().keys():
            time.sleep(self._poll / 4)
        self._exit(verdict)

    def _exit(self, fault: Fault) -> NoReturn:
        self._exiting.acquire()  # The lock is never released, so one thread ends the process.
        if fault.process == self._index and self._text:
            text = self._text
        elif fault.line:
            host = self._hosts.get(fault.process, "host unknown")
            text = f"pmc: error: process {fault.process} ({host}) {fault.line}"
        else:
            text = ""
        if text and not self._text and multihost.is_first():
            print(file=sys.stderr)  # This ends the line of a progress bar.
        try:
            if self._index != 0:
                self._publish(f"left/{self._index}", 1)
        finally:
            self._parent.exit(fault.status, text)


def _is_secondary(error: BaseException | None) -> bool:
    """Returns whether the failure of another process may have caused an error."""
    while error is not None:
        if type(error).__name__ == "JaxRuntimeError" and not str(error).startswith(_OWN_ERRORS):
            return True
        error = error.__cause__ or error.__context__
    return False
