"""Compares the speed of two commits, stage by stage, on a whole run of `pmc unlearn`.

    python benchmarks/history.py COMMIT COMMIT [--config FILE] [section.key=value ...]

The two commits run in turn, each in a process of its own with an empty compilation cache. The ratio
of a stage is the seconds of the second commit divided by those of the first; repeats give its
range. `first output` is the time until the command writes its first output. The last output line is
JSON.
"""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commits import checkout, commit_id
from record import print_record, spread

_LEAST = 0.5  # A stage with fewer seconds in the first commit has no ratio.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="first and second commit")
    parser.add_argument(
        "settings", nargs="*", metavar="section.key=value", help="settings for both commits"
    )
    parser.add_argument(
        "--config",
        default="configs/quickstart.yaml",
        help="settings file; a relative path is a file of each commit",
    )
    for which in ("first", "second"):
        parser.add_argument(
            f"--{which}",
            default="",
            metavar="SETTINGS",
            help=f"settings for the {which} commit only, as one text",
        )
    parser.add_argument("--repeats", type=int, default=3, help="number of pairs of runs")
    options = parser.parse_intermixed_args()
    commits = [commit_id(name) for name in options.commits]
    own = [shlex.split(text) for text in (options.first, options.second)]
    pairs = []
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(checkout(commit)) for commit in commits]
        for number in range(options.repeats):
            pairs.append(
                [
                    run(folder, [options.config, *options.settings, *settings])
                    for folder, settings in zip(folders, own, strict=True)
                ]
            )
            print(f"pair {number + 1} of {options.repeats}", file=sys.stderr)
    stages = [name for name in pairs[0][0]["seconds"] if name in pairs[0][1]["seconds"]]
    table = {name: row(pairs, lambda figures, n=name: figures["seconds"][n]) for name in stages}
    table["peak GB"] = row(pairs, lambda figures: figures["peak_gbytes"])
    print(f"{'':14}{'first':>10}{'second':>10}{'ratio':>10}   range of the ratios")
    for name, figures in table.items():
        first, second = (figures[which]["median"] for which in ("first", "second"))
        text = f"{name:14}{first:10.1f}{second:10.1f}"
        if ratio := figures.get("ratio"):
            text += f"{ratio['median']:10.3f}   {ratio['min']:.3f} to {ratio['max']:.3f}"
        print(text)
    print_record(
        "history",
        options,
        commits=commits,
        stages=table,
        tokens=[[figures["tokens"] for figures in pair] for pair in pairs],
        after=[[figures["after"] for figures in pair] for pair in pairs],
    )


def row(pairs: list[list[dict[str, Any]]], value: Any) -> dict[str, Any]:
    """Returns the spread of a figure for both commits, and of its ratio."""
    first, second = ([value(pair[i]) for pair in pairs] for i in (0, 1))
    figures = {"first": spread(first), "second": spread(second)}
    if min(first) >= _LEAST:
        figures["ratio"] = spread([b / a for a, b in zip(first, second, strict=True)])
    return figures


def run(checkout: Path, arguments: list[str]) -> dict[str, Any]:
    """Runs `pmc unlearn` with the package of a checkout and returns the figures of the run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", *arguments, f"output.dir={out}"]
        environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": folder}
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        text = process.stdout.read(1)
        first_output = time.perf_counter() - begin
        text += process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        total = time.perf_counter() - begin
        if status:
            raise SystemExit(f"{shlex.join(command)}\n{text.decode(errors='replace')[-2000:]}")
        results = json.loads((out / "results.json").read_text())
    seconds = results["seconds"] | {"first output": first_output, "whole command": total}
    after = {name: results["after"][name] for name in ("unlearn_quality", "utility")}
    return {
        "seconds": seconds,
        "peak_gbytes": usage.ru_maxrss / 1e6,
        "tokens": results["tokens"],
        "after": after,
    }


if __name__ == "__main__":
    main()
