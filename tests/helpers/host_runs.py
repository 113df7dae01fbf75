"""Commands that run in two processes with four virtual devices each, or in one with eight."""

import dataclasses
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).parents[1]
TIMEOUT_SECONDS = 240


def without_bars(err: str) -> list[str]:
    """Returns the lines on stderr that are no progress bars."""
    lines = re.split(r"[\r\n]+", err)
    return [line for line in lines if line.strip() and not re.search(r"\d/\d+ \[", line)]


@dataclasses.dataclass(frozen=True)
class Ended:
    """Exit status and output of a process that has ended."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on stderr without progress bars."""
        return without_bars(self.err)


class Job:
    """Processes of one job, which start in the current folder.

    Args:
        arguments: arguments of the command line.
        cache: folder for compiled programs.
        processes: number of processes, which share eight devices.
        script: script that is run in place of the command line, with the same arguments.
        environment: further environment variables.
    """

    def __init__(
        self,
        *arguments: str,
        cache: Path,
        processes: int = 2,
        script: Path | None = None,
        **environment: str,
    ):
        flags = f"--xla_force_host_platform_device_count={8 // processes}"
        env = os.environ | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
            "PYTHONPATH": os.pathsep.join([str(_TESTS.parent), str(_TESTS / "helpers")]),
            "PMC_HOST_SECONDS": "30",  # A process on a busy machine must not count as failed.
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, *([str(script)] if script else ["-m", "pmc_jax.cli"])]
        coordinator = f"localhost:{_free_port()}"
        self._processes, self._files = [], []
        for index in range(processes):
            spec = ["--coordinator", coordinator, "--num-processes", str(processes)]
            spec += ["--process-id", str(index)] if processes > 1 else []
            paths = [Path(f"{name}.{index}.{os.getpid()}") for name in ("out", "err")]
            self._files.append(paths)
            with paths[0].open("w") as out, paths[1].open("w") as err:
                process = subprocess.Popen(
                    [*command, *arguments, *(spec if processes > 1 else [])],
                    env=env | environment,
                    stdout=out,
                    stderr=err,
                )
            self._processes.append(process)

    def wait_for(self, pattern: str) -> None:
        """Waits until the first process has written a pattern to stderr or has ended."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not re.search(pattern, self._text(0, 1)) and self._processes[0].poll() is None:
            assert time.monotonic() < deadline, self._text(0, 1)[-2000:]
            time.sleep(0.02)

    def send(self, index: int, number: signal.Signals) -> None:
        """Sends a signal to the parent process, as a user would."""
        if self._processes[index].poll() is None:
            self._processes[index].send_signal(number)

    def lose(self, index: int) -> None:
        """Kills a process and its child, as the failure of a machine would."""
        pid = self._processes[index].pid
        if self._processes[index].poll() is None:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for child in [*map(int, children), pid]:
                os.kill(child, signal.SIGKILL)

    def ended(self, seconds: float = TIMEOUT_SECONDS) -> list[Ended]:
        """Waits until all processes have ended and returns the result of each process.

        Args:
            seconds: time limit after which all processes are killed.
        """
        deadline = time.monotonic() + seconds
        try:
            for process in self._processes:
                process.wait(max(0.1, deadline - time.monotonic()))
        finally:
            for index in range(len(self._processes)):
                self.lose(index)
        ended = []
        for index, process in enumerate(self._processes):
            ended.append(Ended(process.returncode, self._text(index, 0), self._text(index, 1)))
            for path in self._files[index]:
                path.unlink()
        return ended

    def _text(self, index: int, stream: int) -> str:
        return self._files[index][stream].read_text(errors="replace")


def _free_port() -> int:
    # The system gives parallel runs ports above this range.
    for _ in range(100):
        port = random.randrange(10000, 30000)
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)):
                return port
    raise AssertionError("no free port")
