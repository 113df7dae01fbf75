"""`pmc plan` by the TPU's own compiler: what must not get worse on slices that are not at hand."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="libtpu is for Linux on x86-64",
)


def compiled_plans(which: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(TESTS / "devices" / "plans.py"), which],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "helpers")]),
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def plans() -> dict:
    return compiled_plans("short")


@pytest.fixture(scope="module")
def more_plans() -> dict:
    return compiled_plans("long")


@pytest.fixture(scope="module")
def llama_3b() -> dict:
    return compiled_plans("3b")["3b"]


@pytest.mark.slow
class TestLlama3B:
    """Llama-3.2-3B, 64 rows of 256 tokens and 160 answers at once, on sixteen v5e chips."""

    def test_training_and_sampling_fit(self, llama_3b):
        assert (
            llama_3b["fits"] and llama_3b["chips"] == 16 and llama_3b["parameters"] == 3_212_749_824
        )
        programs = llama_3b["programs"]
        assert list(programs) == ["train_step", "weight_sync", "prefill", "decode_step"]
        # float32 weights and two moments over sixteen devices, and the batch.
        assert programs["train_step"]["arguments_bytes"] < 12.1 * llama_3b["parameters"] / 16
        assert programs["decode_step"]["beside_bytes"] >= 12 * llama_3b["parameters"] / 16

    def test_products(self, llama_3b):
        assert 1.1 < llama_3b["ratios"]["train_step_flops_per_6nd"] <= 1.36

    def test_memory_traffic_of_a_decode_step(self, llama_3b):
        ratio = llama_3b["ratios"]["decode_step_hbm_per_weights_and_cache"]
        assert 1 < ratio <= 1.25

    def test_every_bound_is_below_the_estimate(self, llama_3b):
        for name, program in llama_3b["programs"].items():
            bound = program["bound"]
            assert 0 < bound["seconds"] < 1.05 * bound["estimated"], name
        rates = llama_3b["rates"]["train_step"]
        for kind in ("seconds", "estimated"):
            assert 0 < rates[kind]["model_flop_utilisation"] < 1

    def test_weights_are_gathered_for_use_and_activations_stay(self, llama_3b):
        """In bfloat16: forward, and again for the backward pass; gradients go the other way."""
        weights = 2 * llama_3b["parameters"]
        moved = {"all-gather": 0, "gradients": 0, "all-to-all": 0}
        for c in llama_3b["programs"]["train_step"]["collectives"]:
            assert c["axes"] == "fsdp"
            moved[c["kind"] if c["kind"] in moved else "gradients"] += c["bytes"]
        assert moved["all-gather"] <= 2 * weights
        assert moved["gradients"] <= 1.1 * weights
        assert moved["all-to-all"] < 0.01 * weights

    def test_the_weight_sync_moves_each_weight_once(self, llama_3b):
        moved = llama_3b["programs"]["weight_sync"]["collectives"]
        assert {c["kind"] for c in moved} == {"all-gather"}
        weights = 2 * llama_3b["parameters"]
        assert sum(c["bytes"] for c in moved) == pytest.approx(weights * 15 / 16, rel=0.01)

    def test_a_decode_step_gathers_no_weights_and_no_logits(self, llama_3b):
        moved = llama_3b["programs"]["decode_step"]["collectives"]
        assert sum(c["bytes"] for c in moved) < 64 * 1024

    def test_the_whole_run(self, llama_3b):
        run = llama_3b["run"]
        assert run["steps"] == 188 and run["rounds"] == 188
        for kind in ("bound", "estimated"):
            seconds = run[f"{kind}_seconds"]
            parts = [value for stage, value in seconds.items() if stage != "total"]
            assert sum(parts) == pytest.approx(seconds["total"])
            assert run[f"{kind}_chip_hours"] == pytest.approx(16 * seconds["total"] / 3600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "devices"),
    [("v4:2x2x1", 8), ("v5p:2x2x1", 4), ("v6e:2x2", 4), ("tpu7x:2x2x1", 8)],
)
def test_every_kind_of_chip(more_plans, topology, devices):
    plan = more_plans["kinds"][topology]
    assert plan["fits"] and plan["devices"] == devices
    axes = {name.split()[1] for name in plan["moved"]}
    assert "fsdp" in axes and "tensor" in axes


@pytest.mark.slow
def test_only_gradients_cross_slices(plans):
    plan = plans["slices"]
    assert plan["devices"] == 8
    across = {name: moved for name, moved in plan["moved"].items() if "slice" in name}
    assert {name.split()[0] for name in across} == {"all-reduce"}
    within = sum(moved for name, moved in plan["moved"].items() if name not in across)
    assert 0 < sum(across.values()) < within


@pytest.mark.slow
def test_more_chips_with_more_work_move_what_a_ring_moves(more_plans):
    """Between copies: (n-1)/n of the gradients for n copies; within them nothing more."""
    moved = {int(chips): axes for chips, axes in more_plans["doubled"].items()}

    def total(chips: int, *, copies: bool) -> float:
        return sum(m for name, m in moved[chips].items() if ("data" in name) == copies)

    ring = (1 - 4 / 64) / (1 - 4 / 16)
    assert 0 < total(64, copies=True) <= 1.02 * ring * total(16, copies=True)
    assert 0 < total(64, copies=False) <= 1.02 * total(16, copies=False)


@pytest.mark.slow
def test_more_chips_that_share_the_weights_move_what_a_ring_moves(more_plans):
    """(n-1)/n of what is gathered and scattered: nothing is added up whole on every device."""
    moved = {int(chips): sum(axes.values()) for chips, axes in more_plans["sharded"].items()}
    for chips in (32, 64):
        assert 0 < moved[chips] <= 1.02 * (1 - 1 / chips) / (1 - 1 / 16) * moved[16]


@pytest.mark.slow
def test_a_search_finds_the_nearest_that_fits(more_plans):
    search = more_plans["search"]
    assert search["fits"] and search["said"]
    assert search["remat"] == "full"
    assert search["batch_size"] * search["accumulation_steps"] == 2048


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    assert "plan.topology is not set" in tiny.refused("plan")
    message = tiny.refused("plan", "plan.topology=v5e:5x5")
    assert "v5e has no slice '5x5'" in message
    done = tiny.succeed("plan", "plan.topology=v5e:2x2", "mesh.data=1", "mesh.fsdp=4")
    record = json.loads(Path("plan.json").read_text())
    assert record["fits"] and record["mesh"]["fsdp"] == 4
    for name in ("train_step", "weight_sync", "prefill", "decode_step", "chip-hours"):
        assert name in done.out
    assert "pmc wrote plan.json" in done.out and "Traceback" not in done.err
