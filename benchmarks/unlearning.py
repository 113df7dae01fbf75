"""A whole job by stage: python benchmarks/unlearning.py CONFIG.yaml [section.key=value ...]

Runs `pmc unlearn` in a process of its own and reads what it wrote. With --score the time is given
at which the stored answers first scored that little. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from record import print_record


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a job, by stage.")
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--score", type=float, default=0.1, help="mean score of stored answers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", options.config]
        subprocess.run([*command, *options.settings, f"output.dir={out}"], check=True)
        results = json.loads((out / "results.json").read_text())
    seconds, tokens = results["seconds"], results["tokens"]
    reached = next((r for r in results["rounds"] if r["mean_score"] <= options.score), None)
    print_record(
        "unlearning",
        options,
        seconds=seconds,
        unlearning_seconds=sum(seconds[name] for name in ("sample", "score", "train")),
        tokens=tokens,
        useful_slots=tokens["sampled"] / tokens["sample_slots"],
        sampled_tokens_per_second=tokens["sampled"] / seconds["sample"],
        step_at_score=reached and reached["step"],
        before={k: results["before"][k] for k in ("unlearn_quality", "utility")},
        after={k: results["after"][k] for k in ("unlearn_quality", "utility")},
        peak_gbytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
    )


if __name__ == "__main__":
    main()
