"""Counts the faults that a run survives.

    python benchmarks/faults.py CONFIG.yaml [section.key=value ...]

The script runs `pmc unlearn` once without a fault. It then repeats the run in new output folders,
each time with one fault at a random moment: kill -9, SIGTERM, or kill -9 and a damaged file in the
newest checkpoint. The script resumes each run. A run survives a fault if its exported weights and
results equal those of the run without a fault, bit for bit. The last output line is JSON.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from arguments import add_config
from record import print_record

TEMPORARY_FAILURE = 75
COMPARED = ("before", "after", "rounds", "tokens")


class Job:
    """`pmc unlearn` command with its own output folder."""

    def __init__(self, options: argparse.Namespace, out: Path):
        every = f"output.checkpoint_every={options.every}"
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", options.config]
        self._command = [*command, *options.settings, every, f"output.dir={out}"]
        self.out = out

    def run(self, seconds: float | None = None, sent: int = signal.SIGKILL) -> tuple[int, str]:
        """Runs the job, sends a signal after `seconds`, and returns the exit status and stderr."""
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=said)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(sent)
            status = process.wait()
            said.seek(0)
            return status, said.read()

    def result(self) -> tuple[str, dict[str, Any]]:
        """Returns a digest of the exported weights and the results that do not depend on time."""
        digest = hashlib.sha256()
        for path in sorted((self.out / "model").glob("*.safetensors")):
            digest.update(path.read_bytes())
        results = json.loads((self.out / "results.json").read_text())
        return digest.hexdigest(), {name: results[name] for name in COMPARED}

    def spoil(self, rng: random.Random) -> None:
        """Cuts a file of the newest checkpoint in half if there is also an older checkpoint."""
        folders = [p for p in (self.out / "checkpoints").glob("*") if p.name.isdigit()]
        if len(folders) > 1:
            newest = max(folders, key=lambda path: int(path.name))
            files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
            spoilt = rng.choice(sorted(files))
            spoilt.write_bytes(spoilt.read_bytes()[: spoilt.stat().st_size // 2])


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the faults that a run survives.")
    add_config(parser)
    parser.add_argument("--kills", type=int, default=30, help="number of faults by kill -9")
    parser.add_argument("--stops", type=int, default=10, help="number of faults by SIGTERM")
    parser.add_argument(
        "--spoilt",
        type=int,
        default=10,
        help="number of faults by kill -9 and a damaged checkpoint",
    )
    parser.add_argument("--every", type=int, default=2, help="number of steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    rng, faults = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        whole = Job(options, Path(folder) / "whole")
        begin = time.monotonic()
        status, said = whole.run()
        if status:
            parser.error(
                f"{options.config}: the run failed although it had no fault. Correct this "
                f"error:\n{said}"
            )
        seconds = latest = time.monotonic() - begin
        expected = whole.result()
        kinds = {"kills": options.kills, "stops": options.stops, "spoilt": options.spoilt}
        for kind in (kind for kind, count in kinds.items() for _ in range(count)):
            sent = signal.SIGTERM if kind == "stops" else signal.SIGKILL
            status = 0
            while status == 0:  # The status is 0 if the run ended before the signal.
                job = Job(options, Path(folder) / f"fault{len(faults)}")
                shutil.rmtree(job.out, ignore_errors=True)
                moment = rng.uniform(0, latest)
                status, said = job.run(moment, sent)
                latest = latest if status else moment
            if kind == "spoilt":
                job.spoil(rng)
            finished = (job.out / "results.json").exists()
            again = (0, "") if finished else job.run()
            good = again[0] == 0 and job.result() == expected
            if kind == "stops":  # SIGTERM ends the process directly until the handler exists.
                good &= status in (TEMPORARY_FAILURE, -signal.SIGTERM)
            good &= "Traceback" not in said + again[1]
            faults.append({"kind": kind, "second": moment, "status": status, "survived": good})
            if not good:
                print(said[-2000:], again, file=sys.stderr)
    survived = {kind: sum(f["survived"] for f in faults if f["kind"] == kind) for kind in kinds}
    print_record("faults", options, survived=survived, of=kinds, job_seconds=seconds, faults=faults)


if __name__ == "__main__":
    main()
