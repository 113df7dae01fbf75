"""Supervision of multi-process jobs: a forked child does the work, and its parent watches it.

When the host of process 0 fails, jax ends all other processes from C++, within milliseconds and
with its own messages; none of their Python code runs any more. So a forked child does the work.
The output of native code is written to a file, and shown only if nothing else explains a death.
The parent forwards signals, prints the last message once, and returns the exit status. It does
not import jax.
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

_FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP")  # names, since some systems lack some of them
_SHOWN_BYTES = 4000  # of native output, if nothing else explains a death
_TEXT_CHARACTERS = 30_000  # fits into the buffer of a pipe that is not read yet


@dataclasses.dataclass(frozen=True)
class Parent:
    """The child's two pipes to its parent.

    Attributes:
        messages: file descriptor to write to, one JSON object per line.
        alive: file descriptor that reports end of file once the parent is dead.
    """

    messages: int
    alive: int

    def announce(self, index: int, hosts: list[str]) -> None:
        """Sends this process's index and all host names, which the parent uses in messages."""
        self._send({"index": index, "hosts": hosts})

    def exit(self, status: int, text: str = "") -> NoReturn:
        """Ends this process; the parent prints `text` and exits with `status`."""
        self._send({"text": text[-_TEXT_CHARACTERS:]})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # a thread that waits for a lost process would never end

    def _send(self, message: dict[str, Any]) -> None:
        os.write(self.messages, json.dumps(message).encode() + b"\n")


def run_supervised(work: Callable[[Parent], NoReturn]) -> int:
    """Runs `work`, which ends with `Parent.exit`, in a child; returns the exit status.

    Raises:
        UserError: the system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise UserError("multi-process jobs: this system cannot fork; run the job on Linux")
    read_end, messages = os.pipe()
    alive, write_end = os.pipe()
    native = tempfile.TemporaryFile()  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if not child:
        os.close(read_end)
        os.close(write_end)
        # A terminal signals the parent alone, which forwards the signal.
        os.setpgid(0, 0)
        _redirect_native_output(native)
        parent = Parent(messages, alive)
        try:
            work(parent)
        except BaseException as error:
            parent.exit(1, "".join(traceback.format_exception(error)).rstrip())
    os.close(messages)
    os.close(alive)
    numbers = [getattr(signal, name) for name in _FORWARDED]
    for number in numbers:
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, wait_status = os.waitpid(child, 0)
    # The child's process id may belong to another process from now on.
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    return _report_end(os.waitstatus_to_exitcode(wait_status), _read_messages(read_end), native)


def _redirect_native_output(native: BinaryIO) -> None:
    """Redirects the output of native code to a file; Python still writes to the streams."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        writer = open(  # noqa: SIM115
            os.dup(number), "w", encoding=stream.encoding, errors=stream.errors, buffering=1
        )
        setattr(sys, name, writer)
        os.dup2(native.fileno(), number)


def _read_messages(handle: int) -> dict[str, Any]:
    """Reads the child's messages into one dict; does not wait for processes it has started."""
    os.set_blocking(handle, False)
    with open(handle, "rb", buffering=0) as pipe:
        text = pipe.readall() or b""
    messages: dict[str, Any] = {}
    for line in text.splitlines():
        messages |= json.loads(line)
    return messages


def _report_end(status: int, messages: dict[str, Any], native: BinaryIO) -> int:
    """Prints why the child ended; returns the exit status of this process."""
    if "text" in messages:
        if messages["text"]:
            print(messages["text"], file=sys.stderr)
        return status
    native.seek(0)
    output = native.read().decode(errors="replace")
    hosts, index = messages.get("hosts", []), messages.get("index")

    def named(number: int) -> str:
        return f"process {number} ({hosts[number]})" if number < len(hosts) else f"process {number}"

    if "RegisterTask" in output and "DEADLINE_EXCEEDED" in output:
        text = "timed out waiting for all processes; start them all, or raise PMC_JOIN_SECONDS"
    elif "Aborted connect attempt" in output:
        text = "another process has the same --process-id"
    elif unhealthy := re.search(r"stopped sending heartbeats\):\s*((?:\d+\s)+)", output):
        text = f"{', '.join(named(int(n)) for n in unhealthy[1].split())} died: no heartbeat"
    elif "distributed service detected fatal errors" in output and index != 0:
        text = f"{named(0)} died: the connection to it was lost"
    else:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        text = ("this process" if index is None else named(index)) + f" {how}"
        if status != -signal.SIGKILL:
            print(output[-_SHOWN_BYTES:], file=sys.stderr)
    print(f"pmc: error: {text}", file=sys.stderr)
    return 1
