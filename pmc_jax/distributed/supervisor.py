"""A process that works and one that watches it: only where several processes run a job.

When the host of process 0 goes, jax ends all the others from C++, within milliseconds and in its
own words; no Python of theirs runs any more. So the work is done in a forked child. What native
code writes is kept aside and shown only for a death that nothing else explains. The parent passes
signals on, says the last word, once, and gives the exit status. It imports no jax.
"""

import dataclasses
import json
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from pmc_jax.errors import UserError

_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP")  # by name: not every system has them all
_SHOWN_BYTES = 4000  # of the native output of a death that nothing explains
_LAST_WORDS_BYTES = 30_000


@dataclasses.dataclass(frozen=True)
class Parent:
    """What the child knows of its parent.

    Attributes:
        words: handle that takes what the parent is to say, one JSON object a line.
        alive: handle that reads as ended once the parent is gone.
    """

    words: int
    alive: int

    def met(self, index: int, hosts: list[str]) -> None:
        """Tells who takes part: the number of this process, and the host name of each."""
        self._tell({"index": index, "hosts": hosts})

    def leave(self, status: int, text: str = "") -> NoReturn:
        """Ends this process; the parent says `text` and ends with `status`."""
        self._tell({"text": text[-_LAST_WORDS_BYTES:]})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # threads that wait for a lost process never end

    def _tell(self, words: dict[str, Any]) -> None:
        os.write(self.words, json.dumps(words).encode() + b"\n")


def supervised(work: Callable[[Parent], NoReturn]) -> int:
    """Runs `work`, which ends with `Parent.leave`, in a child; returns the status to exit with.

    Raises:
        UserError: the system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise UserError("several processes: this system cannot fork; run them on Linux")
    told, words = os.pipe()
    alive, life = os.pipe()
    native = tempfile.TemporaryFile()  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if not child:
        os.close(told)
        os.close(life)
        # Signals of a terminal come to the parent alone, which passes them on.
        os.setpgid(0, 0)
        _set_native_aside(native)
        parent = Parent(words, alive)
        try:
            work(parent)
        except BaseException as error:
            parent.leave(1, "".join(traceback.format_exception(error)).rstrip())
    os.close(words)
    os.close(alive)
    numbers = [getattr(signal, name) for name in _PASSED_ON]
    for number in numbers:
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, ended = os.waitpid(child, 0)
    # The number may belong to another process from now on.
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    return _last_word(os.waitstatus_to_exitcode(ended), _told(told), native)


def _set_native_aside(native: BinaryIO) -> None:
    """Python goes on to write to the streams; what native code writes goes to a file."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        writer = open(  # noqa: SIM115
            os.dup(number), "w", encoding=stream.encoding, errors=stream.errors, buffering=1
        )
        setattr(sys, name, writer)
        os.dup2(native.fileno(), number)


def _told(handle: int) -> dict[str, Any]:
    """What the child told, without waiting for anybody who has inherited its end."""
    os.set_blocking(handle, False)
    text = b""
    try:
        while part := os.read(handle, 1 << 16):
            text += part
    except BlockingIOError:
        pass
    told: dict[str, Any] = {}
    for line in text.splitlines():
        told |= json.loads(line)
    return told


def _last_word(status: int, told: dict[str, Any], native: BinaryIO) -> int:
    if "text" in told:
        if told["text"]:
            print(told["text"], file=sys.stderr)
        return status
    native.seek(0)
    said = native.read().decode(errors="replace")
    hosts, index = told.get("hosts", []), told.get("index")

    def named(number: int) -> str:
        return f"process {number} ({hosts[number]})" if number < len(hosts) else f"process {number}"

    if "RegisterTask" in said and "DEADLINE_EXCEEDED" in said:
        text = "not all processes came in time; start them all, or raise PMC_JOIN_SECONDS"
    elif "Aborted connect attempt" in said:
        text = "another process has the same --process-id"
    elif unhealthy := re.search(r"stopped sending heartbeats\):\s*((?:\d+\s)+)", said):
        text = f"{', '.join(named(int(n)) for n in unhealthy[1].split())} is gone: no sign of life"
    elif "distributed service detected fatal errors" in said and index != 0:
        text = f"{named(0)} is gone: the connection to it was lost"
    else:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        text = ("this process" if index is None else named(index)) + f" {how}"
        if status != -signal.SIGKILL:
            print(said[-_SHOWN_BYTES:], file=sys.stderr)
    print(f"pmc: error: {text}", file=sys.stderr)
    return 1
