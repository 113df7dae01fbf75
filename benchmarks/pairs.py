"""Measures this package and another program in turn. The other program runs in a worker process.

A worker is `python SCRIPT ARGUMENTS_FILE`. The worker loads its model and prints its versions as a
line of JSON. For every line on stdin, the worker then does its work once and prints a JSON object
of figures. The two programs run in turn, so each program has the machine to itself.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from record import spread

from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel

WORKERS = {"hf": "hf_worker.py", "tunix": "tunix_worker.py"}


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    parser.add_argument(
        "--against", choices=names, help="program that is measured in turn with this package"
    )
    parser.add_argument(
        "--against-python",
        default=sys.executable,
        help="Python interpreter that has the program installed",
    )


class Worker:
    """Worker process of the other program. The end of the `with` block ends the process.

    Attributes:
        versions: versions of the packages that the worker uses.

    Raises:
        SystemExit: the worker cannot start. The message names the packages to install.
    """

    def __init__(self, name: str, python: str, arguments: Mapping[str, Any]):
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "arguments.json"
        path.write_text(json.dumps(arguments))
        # The threads of the worker must not spin while this process measures.
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name(WORKERS[name])), str(path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.versions = self._read()
        except ValueError:
            self.__exit__(None, None, None)
            raise SystemExit(
                f"--against {name}: the worker cannot start with {python}. Run: {python} -m pip "
                f"install '.[bench-{name}]'"
            ) from None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()

    def _read(self) -> dict[str, Any]:
        return json.loads(self._process.stdout.readline())

    def run(self) -> dict[str, float]:
        """Runs the work of the other program once and returns its figures.

        Raises:
            SystemExit: the other program has ended.
        """
        try:
            print(file=self._process.stdin, flush=True)
            return self._read()
        except (ValueError, BrokenPipeError):
            raise SystemExit(
                "--against: the worker process ended. Read its error message above."
            ) from None


@contextlib.contextmanager
def other(
    options: argparse.Namespace, lm: LanguageModel, arguments: Mapping[str, Any]
) -> Iterator[Worker | None]:
    """Yields the worker for `--against` with an export of the model, or None without the option."""
    if not options.against:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        export_hf(lm, model)
        arguments = {**arguments, "model": str(model)}
        with Worker(options.against, options.against_python, arguments) as worker:
            yield worker


def rates(ours: Callable[[], float], worker: Worker | None, repeats: int) -> dict[str, Any]:
    """Measures the warm rates of this package and, if a worker is given, of the other program."""
    if worker is not None:
        return in_turn(ours, worker, repeats)
    ours()  # compiles
    return {"rate": spread([ours() for _ in range(repeats)])}


def in_turn(ours: Callable[[], float], worker: Worker, repeats: int) -> dict[str, Any]:
    """Measures both programs in turn. The first pair warms up and is ignored."""
    ours()
    worker.run()
    own, others = [], []
    for _ in range(repeats):
        own.append(ours())
        others.append(worker.run())
    figures: dict[str, Any] = {"rate": spread(own)}
    for name in others[0]:
        theirs = [figure[name] for figure in others]
        ratios = [a / b for a, b in zip(own, theirs, strict=True)]
        figures[name] = {
            "rate": spread(theirs),
            "ratios": [round(r, 3) for r in ratios],
            "ratio": statistics.median(ratios),
        }
    return figures | {"against_versions": worker.versions}
