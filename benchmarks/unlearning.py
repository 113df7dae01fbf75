"""A whole job by stage: python benchmarks/unlearning.py CONFIG.yaml [section.key=value ...]

Runs `pmc unlearn` in a process of its own and reads what it wrote. With --quality the model is
evaluated every few steps, and the seconds of unlearning (evaluation apart) are given after which
it first reached that unlearn quality. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from record import print_record

from pmc_jax.tracker import UNLEARNING_STAGES, read_log


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a job, by stage.")
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--quality", type=float, help="unlearn quality that is to be reached")
    parser.add_argument("--every", type=int, default=5, help="steps between two evaluations")
    options = parser.parse_args()
    settings = list(options.settings)
    if options.quality is not None:
        settings.append(f"evaluate.every={options.every}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", options.config]
        subprocess.run([*command, *settings, f"output.dir={out}"], check=True)
        results = json.loads((out / "results.json").read_text())
        measured = [row for row in read_log(out / "log.jsonl") if "unlearn_quality" in row]
    seconds, tokens = results["seconds"], results["tokens"]
    spent = sum(seconds[name] for name in UNLEARNING_STAGES)
    after = {k: results["after"][k] for k in ("unlearn_quality", "utility")}
    measured.append({"step": results["rounds"][-1]["step"], **after, "unlearning_seconds": spent})
    reached = (row for row in measured if row["unlearn_quality"] >= options.quality)
    print_record(
        "unlearning",
        options,
        seconds=seconds,
        unlearning_seconds=spent,
        tokens=tokens,
        useful_slots=tokens["sampled"] / tokens["sample_slots"],
        sampled_tokens_per_second=tokens["sampled"] / seconds["sample"],
        quality_reached=next(reached, None) if options.quality is not None else None,
        before={k: results["before"][k] for k in ("unlearn_quality", "utility")},
        after=after,
        peak_gbytes=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
    )


if __name__ == "__main__":
    main()
