"""Measures the time of each stage of a job.

    python benchmarks/unlearning.py CONFIG.yaml [section.key=value ...]

The script runs `pmc unlearn` in a separate process and reads the results. With --quality, the run
evaluates the model every few steps, and the record contains the seconds of unlearning, without
evaluation, after which the model first reached that unlearn quality. The last output line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from arguments import add_config
from record import print_record

from pmc_jax.artifacts.log import read_log
from pmc_jax.artifacts.timer import UNLEARNING_STAGES
from pmc_jax.distributed import launch


def flags(spec: launch.ProcessSpec | None) -> list[str]:
    """Returns the options from which `launch` builds this spec."""
    if spec is None:
        return []
    if spec.index is None:
        return ["--distributed"]
    names = ("--coordinator", "--num-processes", "--process-id")
    values = (spec.coordinator, spec.count, spec.index)
    return [f"{name}={value}" for name, value in zip(names, values, strict=True)]


def rank(spec: launch.ProcessSpec) -> int:
    """Returns the index of this process from the spec or from the variables of the cluster."""
    if spec.index is not None:
        return spec.index
    names = ("TPU_WORKER_ID", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the seconds of a job by stage.")
    add_config(parser)
    parser.add_argument(
        "--quality",
        type=float,
        help="unlearn quality; the time until the model reaches it is reported",
    )
    parser.add_argument("--every", type=int, default=5, help="number of steps between evaluations")
    parser.add_argument("--out", help="output folder for all processes; default: temporary")
    launch.add_flags(parser)
    options = parser.parse_args()
    spec = launch.process_spec(options, os.environ)
    if spec is not None and options.out is None:
        parser.error(
            "--out is required for a job of several processes. Pass a folder that all processes "
            "share."
        )
    settings = list(options.settings)
    if options.quality is not None:
        settings.append(f"evaluate.every={options.every}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(options.out or folder) / "out"
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", options.config]
        subprocess.run([*command, *settings, f"output.dir={out}", *flags(spec)], check=True)
        if spec is not None and rank(spec) != 0:
            return
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
