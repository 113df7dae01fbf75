"""What the TPU compiler makes of sampling, compiled for eight chips; no TPU is needed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def programs() -> dict:
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu, which pip install '.[test]' brings on Linux x86-64")
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS / "helpers")])
    done = subprocess.run(
        [sys.executable, str(TESTS / "devices" / "tpu_programs.py")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_cache_is_updated_in_place(programs):
    assert programs["caches_in_text"] == 2  # keys and values, as the compiler names their shapes
    assert programs["cache_copies"] == 0
    assert programs["aliased_bytes"] >= programs["cache_bytes"] > 0


def test_a_decode_step_gathers_no_weights_and_no_logits(programs):
    moved = programs["decode_collectives"]
    # All-reduces of the activations of 16 rows: embedding, attention and MLP of two layers.
    activations = 5 * 16 * 2048 * 2
    assert activations <= moved["all-reduce"] <= 2.5 * activations
    # A row of logits on one device is 128,256 bytes.
    assert moved.get("all-gather", 0) + moved.get("all-to-all", 0) < 16 * 1024


def test_the_weight_sync_moves_every_weight_once(programs):
    assert set(programs["weight_sync_collectives"]) == {"all-gather"}
    assert programs["weight_sync_collectives"]["all-gather"] <= programs["weight_bytes"]
