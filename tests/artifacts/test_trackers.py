"""Trackers: which scalars and settings they receive, and curves that continue after a resume."""

import getpass
import importlib.util
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny
from test_log import tensorboard_scalars

from pmc_jax.artifacts import trackers
from pmc_jax.artifacts.log import RunLog
from pmc_jax.config.train import TrainConfig
from pmc_jax.training.losses import METHODS
from pmc_jax.training.step_config import learning_rate

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="needs wandb: pip install wandb"
)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def test_every_logged_scalar_is_tracked(taught):
    rows = [*taught.log("scalars"), *taught.log("finetune")]
    names = {name for row in rows for name in row} - {"kind", "step", "finetune_step"}
    names = {f"finetune_{name}" if name == "loss" else name for name in names}
    terms = {f"{term}_loss" for method in METHODS.values() for term in method.terms}
    tracked = {name for names in trackers.SCALARS.values() for name in names}
    assert names | terms <= tracked
    (step, first), *_, (last, _) = [
        (step, value)
        for step, name, value in tensorboard_scalars(taught.out)[0]
        if name == "unlearn_quality"
    ]
    assert (step, last) == (0, tiny.STEPS)
    assert first == pytest.approx(tiny.results(taught.out)["before"]["unlearn_quality"])
    finetuned, _ = tensorboard_scalars(taught.out, "tensorboard/finetune")
    rows = taught.log("finetune")
    losses = [(step, value) for step, name, value in finetuned if name == "finetune_loss"]
    assert [step for step, _ in losses] == [row["finetune_step"] for row in rows]
    assert losses[-1][1] == pytest.approx(rows[-1]["loss"])


@pytest.mark.parametrize("decay", ["linear", "none"])
def test_the_logged_rate_is_that_of_the_optimizer(decay):
    import optax

    settings = TrainConfig(learning_rate=1e-3, warmup_steps=3, decay=decay)
    last = 0.0 if decay == "linear" else 1e-3
    parts = [optax.linear_schedule(0.0, 1e-3, 3), optax.linear_schedule(1e-3, last, 7)]
    schedule = optax.join_schedules(parts, [3])
    for step in range(12):
        assert learning_rate(settings, 10, step) == pytest.approx(float(schedule(step)), abs=1e-9)


def test_no_tracker(tmp_path):
    with RunLog(tmp_path, names=()) as log:
        log.scalars(1, utility=5)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_wandb_that_is_not_installed_is_named(inputs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tiny.assert_names(tiny.refused("unlearn", "log.trackers=[wandb]"), "pip install wandb")
    tiny.assert_names(tiny.refused("unlearn", "log.trackers=[mlflow]"), "tensorboard, wandb")


def git(*arguments: str) -> str:
    author = ("-c", "user.name=CanaryAuthor", "-c", "user.email=author@canary.example")
    return subprocess.check_output(["git", *author, *arguments], text=True).strip()


def commit_a_script() -> str:
    """Makes the current folder a git repository with a changed script; the hash of its commit."""
    script = Path("canary_script.py")
    script.write_text("print('CanaryCode')\n")
    git("init", "--quiet")
    git("remote", "add", "origin", "https://canary.example/CanaryOwner/project.git")
    git("add", str(script))
    git("commit", "--quiet", "--message", "CanaryMessage")
    script.write_text("print('CanaryChange')\n")
    return git("rev-parse", "HEAD")


@needs_git
@needs_wandb
def test_wandb_records_numbers_and_no_text(inputs, monkeypatch):
    """A run that is interrupted and resumes; its offline files hold none of the canaries."""
    commit = commit_a_script()
    monkeypatch.setenv("WANDB_PROGRAM", "canary_script.py")
    monkeypatch.setenv("WANDB_SAVE_CODE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["pmc", "unlearn", "CanaryArgument"])
    options = ["log.trackers=[wandb]", "log.text=true", "output.checkpoint_every=4"]
    options += ["pmc.schedule.epochs=8", f"train.learning_rate={3e-3}"]
    from pmc_jax.unlearning.loop import Unlearning

    with tiny.crashing(Unlearning, "_take_step", 6):
        tiny.pmc("unlearn", *options)
    tiny.succeed("unlearn", *options)
    folder = Path("out/wandb")
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    runs = sorted(folder.glob("*/run-*.wandb"))
    assert len(runs) == 2 and len({path.name for path in runs}) == 1  # one run, in two parts
    assert not [path for path in files if path.is_symlink() or path.suffix == ".log"]
    assert not [path for path in files if path.suffix in (".py", ".patch")]
    content = b"".join(path.read_bytes() for path in files)
    # The canaries are in an argument, in the script, and in the commit and the remote.
    assert not re.findall(rb"[\w:/.]*canary[\w:/.]*", content.lower())
    for text in (*tiny.WORDS, commit, str(inputs), "run.yaml", ".jsonl", os.getcwd()):
        assert text.encode() not in content, text
    for text in (platform.node(), getpass.getuser(), sys.executable, "pytest"):
        assert len(text) < 3 or text.encode() not in content, text
    for name in ("collapse_loss", "learning_rate", "utility", "pmc.sampling.num_samples"):
        assert name.encode() in content, name
    points = [row for path in runs for row in _rows(path)]
    steps = [row["step"] for row in points if "collapse_loss" in row]
    assert steps == [*range(1, tiny.STEPS // 2 + 1)]  # no step twice, none missing
    assert tiny.succeed("verify", config="out").status == 0


def _rows(path: Path) -> list[dict[str, float]]:
    """The logged values of each call, from the file of an offline run (the format of LevelDB)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, offset, record, rows = path.read_bytes(), 7, b"", []
    while offset + 7 <= len(data):
        if (room := 32768 - offset % 32768) < 7:  # the end of a block is padding
            offset += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, offset)
        record += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            items, record = Record.FromString(record).history.item, b""
            rows.append({"".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows
