"""Every benchmark runs on a tiny model and ends with one JSON line that holds its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHORT = ["--model", "model", "--repeats", "1"]
SAMPLING = ["--questions", "2", "--samples", "2", "--new-tokens", "4"]
CASES = {
    "sampling": ([*SHORT, *SAMPLING], ["rate", "median"]),
    "sampling --ends": ([*SHORT, *SAMPLING, "--ends", "--batch", "2"], ["useful_slots", "median"]),
    "training": ([*SHORT, "--rows", "2", "--data", "retain.jsonl"], ["fill"]),
    "scoring": (["--answers", "40", "--repeats", "1", "--against", "rouge_score"], ["rate", "min"]),
    "scoring --samples": (
        ["--answers", "40", "--samples", "4", "--repeats", "1"],
        ["scores", "lcs_lengths", "median"],
    ),
    "roofline": (["--model", "model", "--slots", "8"], ["decode_step", "share_of_products_limit"]),
    "unlearning": (["run.yaml", "pmc.schedule.epochs=1"], ["unlearning_seconds"]),
    "unlearning --quality": (
        ["run.yaml", "pmc.schedule.epochs=2", "--quality", "0", "--every", "1"],
        ["quality_reached", "step"],
    ),
    "history": (
        [
            *("HEAD", "HEAD", "--repeats", "1", "--config", "{folder}/run.yaml"),
            *("model.path={folder}/model", "data.root={folder}", "--second=pmc.schedule.epochs=1"),
        ],
        ["stages", "whole command", "ratio", "median"],
    ),
    "faults": (
        ["run.yaml", "--kills", "1", "--stops", "1", "--spoilt", "1", "--every", "1"],
        ["job_seconds"],
    ),
    "theory": (["--rounds", "2", "--out", "figures"], ["least_above_bound"]),
    "scaling": (
        ["--model", "model", "--devices", "1", "2", "--factors", "1", "--questions", "2"],
        ["collective_bytes", "tensor 2", "decode_step", "all-reduce"],
    ),
}


FAST = ("sampling", "scoring")  # the others take as long as the machine is slow


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES]
)
def test_last_line(case, tmp_path):
    if case == "history" and not (BENCHMARKS.parent / ".git").exists():
        pytest.skip("needs the git repository, whose commits it checks out")
    tiny.write_inputs(tmp_path)
    arguments, path = CASES[case]
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    script = BENCHMARKS / f"{case.split()[0]}.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["benchmark"] == script.stem and record["versions"]["jax"]
    figure = record
    for key in path:
        figure = figure[key]
    assert figure > 0
    if case in ("sampling", "training"):  # one device, whose peak is not published
        assert record["per_chip"] == {"rate": record["rate"]["median"], "utilisation": None}
    if case == "training":
        assert figure <= 1 and record["memory_gbytes"]["temporary"] > 0
    if case == "theory":
        drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
        assert record["holds"] and drawn == ["curation.png", "lottery.png", "mixing.png"]
    if case == "faults":
        assert record["survived"] == record["of"] == {"kills": 1, "stops": 1, "spoilt": 1}
    if case == "scaling":
        moved = record["collective_bytes"]
        assert not any(moved["fsdp 1"].values()) and not any(moved["tensor 1"].values())
        # The weights are gathered once for sampling, and no decode step gathers any of them.
        assert moved["fsdp 2"]["weight_sync"]["all-gather"] > 0
        for axis in ("fsdp 2", "tensor 2"):
            assert moved[axis]["decode_step"].get("all-gather", 0) < 4096, axis


def test_what_is_not_installed_is_said(tmp_path):
    tiny.write_inputs(tmp_path)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    script = BENCHMARKS / "sampling.py"
    other = ["--against", "hf", "--against-python", str(tmp_path / "python")]
    done = subprocess.run(
        [sys.executable, str(script), *SHORT, *SAMPLING, *other],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "'.[bench-hf]'" in done.stderr.splitlines()[-1]
