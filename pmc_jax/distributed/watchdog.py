"""One end for all processes: what one of them suffers, every one learns, and says it once.

A thread of each process gives signs of life in the key-value store and reads those of the others.
Process 0 gives the verdict, which all then follow: whose fault it was, the status, the line. If it
is process 0 that is gone, jax itself ends the others, and `supervisor` says so. The same thread
carries a request to stop from one process to all, see `preemption`.
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

# Without a sign of life for so long, a process counts as gone.
_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.5
# The same bad input in several processes is said by the first: it has time to come there too.
_GRACE_SECONDS = 2.0
_FOLDER = "pmc/live/"
# Faults of runtime calls that are not the news that another process is gone.
_OWN_FAULTS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")


def timeout() -> float:
    """Seconds without a sign of life after which a process counts as gone: `PMC_HOST_SECONDS`."""
    return multihost.seconds_of("PMC_HOST_SECONDS", _TIMEOUT_SECONDS)


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a process ends.

    Attributes:
        process: which one.
        status: to exit with.
        line: what the others say; "" = nothing.
        is_secondary: it may only be the loss of another process that shows here.
        is_gone: the process has ended already.
    """

    process: int
    status: int
    line: str
    is_secondary: bool = False
    is_gone: bool = False


class Watchdog(threading.Thread):
    """Watches over the other processes until `stop`.

    Args:
        parent: of this process.
        seconds: see `timeout`.
    """

    def __init__(self, parent: Parent, seconds: float):
        super().__init__(name="watch", daemon=True)
        self._parent, self._timeout = parent, seconds
        self._store, self._me, self._count = multihost.store(), multihost.index(), multihost.count()
        # Rarer with many processes: all ask the first one.
        self._poll = max(min(_POLL_SECONDS, seconds / 10), self._count / 256)
        self._names = multihost.gather(socket.gethostname())
        self._parent.met(self._me, self._names)
        self._beats: dict[int, tuple[str, float]] = {}
        self._looked_at = time.monotonic()
        self._failed_at: float | None = None
        self._words = ""
        self._ending = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        beat = 0
        while not self._stopped.wait(self._poll):
            beat += 1
            try:
                self._look(beat)
            except Exception as error:
                if self._stopped.is_set():
                    return
                self._lost(error)

    def stop(self) -> None:
        """All processes have done their work."""
        self._stopped.set()
        self.join()

    def fail(self, error: BaseException, words: "ExitReport") -> NoReturn:
        """Ends this process, and all others with it: for what happened here, or for what another
        process turns out to be to blame for.
        """
        self._words = words.here
        fault = Fault(self._me, words.status, words.elsewhere, is_secondary=_is_echo(error))
        try:
            self._publish(f"fault/{self._me}", dataclasses.asdict(fault))
            time.sleep(self._timeout + 10 * self._poll + _GRACE_SECONDS)  # the thread ends us
        except Exception:
            time.sleep(2 * self._poll)
        self._end(fault)

    def _look(self, beat: int) -> None:
        """One round: a sign of life, and what the others have to say."""
        self._publish(f"beat/{self._me}", beat)
        if preemption.is_asked():
            self._publish("stop", 1)
        found = self._read()
        if "stop" in found:
            self._agree(found)
        if "verdict" in found:
            self._end(Fault(**found["verdict"]))
        if not select.select([self._parent.alive], [], [], 0)[0]:
            if self._me == 0:
                self._selector(found)
            return
        fault = Fault(self._me, 1, "is gone: it was killed", is_gone=True)
        if self._me == 0:
            self.publish_verdict(fault)
        self._publish(f"fault/{self._me}", dataclasses.asdict(fault))
        os._exit(1)

    def _read(self) -> dict[str, Any]:
        entries = self._store.key_value_dir_get(_FOLDER)
        return {key.removeprefix(_FOLDER): json.loads(value) for key, value in entries}

    def _publish(self, name: str, value: Any) -> None:
        self._store.key_value_set(_FOLDER + name, json.dumps(value), allow_overwrite=True)

    def _agree(self, found: dict[str, Any]) -> None:
        if f"passed/{self._me}" not in found:
            self._publish(f"passed/{self._me}", preemption.hold())
        passed = [found.get(f"passed/{i}") for i in range(self._count)]
        if None not in passed:
            preemption.stop_after(max(passed))

    def _selector(self, found: dict[str, Any]) -> None:
        """Process 0 gives the verdict once it is clear who is to blame."""
        now, silent = time.monotonic(), []
        if now - self._looked_at > self._timeout / 2:  # it was this process that stood still
            self._beats.clear()
        self._looked_at = now
        for i in range(1, self._count):
            beat = str(found.get(f"beat/{i}"))
            if i not in self._beats or self._beats[i][0] != beat:
                self._beats[i] = beat, now
            elif now - self._beats[i][1] > self._timeout and f"left/{i}" not in found:
                silent.append(i)
        faults = [Fault(**value) for name, value in found.items() if name.startswith("fault/")]
        faults.sort(key=lambda fault: (fault.is_secondary, fault.process))
        if faults and self._failed_at is None:
            self._failed_at = now
        waited = now - self._failed_at if faults else 0.0
        own = [fault for fault in faults if not fault.is_secondary]
        if own and (own[0].process == 0 or own[0].status != 2 or waited > _GRACE_SECONDS):
            self.publish_verdict(own[0])
        elif silent:
            seconds = f"no sign of life for {self._timeout:g} s"
            self.publish_verdict(Fault(silent[0], 1, f"is gone: {seconds}", is_gone=True))
        # Where the lost process is known by now, this is no echo.
        elif waited > self._timeout + 4 * self._poll:
            self.publish_verdict(faults[0])

    def publish_verdict(self, verdict: Fault) -> None:
        self._publish("verdict", dataclasses.asdict(verdict))
        # The store ends with this process: the others read first.
        deadline = time.monotonic() + min(self._timeout, 10 * self._poll)
        gone = {verdict.process} if verdict.is_gone else set()
        others = {f"left/{i}" for i in {*range(1, self._count)} - gone}
        while time.monotonic() < deadline and not others <= self._read().keys():
            time.sleep(self._poll / 4)
        self._end(verdict)

    def _lost(self, error: Exception) -> None:
        """The store does not answer."""
        if self._me != 0:
            self._end(Fault(0, 1, "is gone: the connection to it was lost"))
        self._end(Fault(0, 1, f"has lost its key-value store: {error}"))

    def _end(self, fault: Fault) -> None:
        self._ending.acquire()  # never released: one thread ends the process
        if fault.process == self._me and self._words:
            text = self._words
        elif fault.line:
            name = self._names[fault.process]
            text = f"pmc: error: process {fault.process} ({name}) {fault.line}"
        else:
            text = ""
        if text and not self._words and multihost.is_first():
            print(file=sys.stderr)  # a progress bar may stand there
        try:
            if self._me != 0:
                self._publish(f"left/{self._me}", 1)
        finally:
            self._parent.leave(fault.status, text)


def _is_echo(error: BaseException | None) -> bool:
    while error is not None:
        if type(error).__name__ == "JaxRuntimeError" and not str(error).startswith(_OWN_FAULTS):
            return True
        error = error.__cause__ or error.__context__
    return False


class ExitReport(NamedTuple):
    """Of what ended the work of a process.

    Attributes:
        status: to exit with.
        here: what its own process says.
        elsewhere: what the others say, after its name.
    """

    status: int
    here: str
    elsewhere: str


def exit_report(error: BaseException, *, interrupted: str) -> ExitReport:
    """Bad input is said once, in all; a traceback once, and a line by every other process."""
    if isinstance(error, UserError):
        return ExitReport(2, f"pmc: error: {error}", "")
    if isinstance(error, KeyboardInterrupt):
        return ExitReport(130, interrupted, "was interrupted")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    here = "".join(traceback.format_exception(error)).rstrip()
    return ExitReport(1, here, f"failed: {text[:300]}")
