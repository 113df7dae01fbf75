"""Supervision of multi-process jobs, in which a forked child does the work of each process.

When the host of process 0 fails, jax ends all other processes from C++ within milliseconds and
prints its own messages. Python code of these processes cannot run after that, so their parents
report the failure. A parent forwards signals, prints one message and returns the exit status. The
output of native code is written to a file and is only shown if nothing else explains a failure. The
parent does not import jax.
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

from pmc_jax.distributed import preemption, streams
from pmc_jax.errors import UserError

_SHOWN_BYTES = 4000  # This many bytes of native output are shown.
_TEXT_CHARACTERS = 10_000  # As JSON, a text of this length fits into the buffer of a pipe.
# This advice ends the messages about a failed process.
RESUME = "Read the log of that process, then run the same command again to resume."


@dataclasses.dataclass(frozen=True)
class Parent:
    """Child's ends of the pipes between a child and its parent.

    Attributes:
        messages: file descriptor to which the child writes one JSON object per line.
        alive: file descriptor that reports end of file once the parent has ended.
    """

    messages: int
    alive: int

    def announce(self, index: int, hosts: dict[int, str]) -> None:
        """Tells the parent the index of this process and the host names, for the parent's messages.

        Args:
            index: index of this process in the job.
            hosts: host names by the index of the process, as far as they are known.
        """
        self._send({"index": index, "hosts": hosts})

    def exit(self, status: int, text: str = "") -> NoReturn:
        """Ends this process with `status`, after sending `text` to the parent, which prints it."""
        self._send({"text": text[-_TEXT_CHARACTERS:]})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # A normal exit would wait for threads that wait for failed processes.

    def _send(self, message: dict[str, Any]) -> None:
        os.write(self.messages, json.dumps(message).encode() + b"\n")


def run_supervised(work: Callable[[Parent], NoReturn]) -> int:
    """Runs `work` in a forked child, waits for the child and returns the status to exit with.

    This is the exit status of the child, or 1 if the child ended without a call of `Parent.exit`.

    Args:
        work: function that ends with a call of `Parent.exit`.

    Raises:
        UserError: the system cannot fork.
    """
    if not hasattr(os, "fork"):
        raise UserError(
            "multi-process jobs need to fork processes, but this system cannot fork. Run the job "
            "on Linux."
        )
    read_end, messages = os.pipe()
    alive, write_end = os.pipe()
    native = tempfile.TemporaryFile()  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if not child:
        os.close(read_end)
        os.close(write_end)
        # A terminal then sends signals to the parent only, which forwards them.
        os.setpgid(0, 0)
        _redirect_native_output(native)
        parent = Parent(messages, alive)
        try:
            work(parent)
        except BaseException as error:
            parent.exit(1, "".join(traceback.format_exception(error)).rstrip())
    os.close(messages)
    os.close(alive)
    numbers = preemption.handled_signals()
    for number in numbers:
        signal.signal(number, lambda number, _: os.kill(child, number))
    preemption.release_signals()
    _, wait_status = os.waitpid(child, 0)
    # The system may now give the process id of the child to another process.
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    return _report_end(os.waitstatus_to_exitcode(wait_status), _read_messages(read_end), native)


def _redirect_native_output(native: BinaryIO) -> None:
    """Redirects the output of native code to a file.

    The output of Python code still goes to stdout and stderr.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        setattr(sys, name, streams.open_stream(os.dup(number), stream.encoding))
        os.dup2(native.fileno(), number)


def _read_messages(handle: int) -> dict[str, Any]:
    """Reads the messages that the child has sent, and merges them into one dict.

    The function does not wait for processes that the child has started.
    """
    os.set_blocking(handle, False)
    with open(handle, "rb", buffering=0) as pipe:
        text = pipe.readall() or b""
    messages: dict[str, Any] = {}
    for line in text.splitlines():
        messages |= json.loads(line)
    return messages


def _report_end(status: int, messages: dict[str, Any], native: BinaryIO) -> int:
    """Prints why the child ended, and returns the exit status for this process.

    Args:
        status: exit status of the child, or the negative number of the signal that killed it.
        messages: messages of the child.
        native: file with the output of native code.
    """
    if "text" in messages:
        if messages["text"]:
            print(messages["text"], file=sys.stderr)
        return status
    native.seek(0)
    output = native.read().decode(errors="replace")
    hosts, index = messages.get("hosts", {}), messages.get("index")

    def named(number: int) -> str:
        name = hosts.get(str(number))  # The keys of JSON objects are strings.
        return f"process {number}" if name is None else f"process {number} ({name})"

    if "RegisterTask" in output and "DEADLINE_EXCEEDED" in output:
        text = (
            "some processes have not joined the job. Start all processes, or raise "
            "PMC_JOIN_SECONDS."
        )
    elif "Aborted connect attempt" in output:
        text = "another process has the same index. Give each process its own --process-id."
    elif unhealthy := re.search(r"stopped sending heartbeats\):\s*((?:\d+\s)+)", output):
        silent = ", ".join(named(int(n)) for n in unhealthy[1].split())
        text = f"{silent} stopped sending heartbeats. {RESUME}"
    elif "distributed service detected fatal errors" in output and index != 0:
        text = f"{named(0)} closed its connection. {RESUME}"
    else:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        text = ("this process" if index is None else named(index)) + f" {how}. {RESUME}"
        if status != -signal.SIGKILL:
            print(output[-_SHOWN_BYTES:], file=sys.stderr)
    print(f"pmc: error: {text}", file=sys.stderr)
    return 1
