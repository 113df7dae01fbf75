"""Retain rows that a run holds out of training: `data.retain_test_size`."""

import pytest
import tiny_runs as tiny

import pmc_jax
from pmc_jax.commands.inputs import read_inputs
from pmc_jax.config.run import load_config
from pmc_jax.training.trainer import Trainer

MANY = tiny.rows(44, seed=3)
SHORT = ("pmc.schedule.epochs=2", "output.checkpoint_every=1")


def test_held_out_rows_are_measured_and_never_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    tiny.write_rows(tmp_path / "retain.jsonl", MANY)
    with tiny.crashing(Trainer, "step", 1):
        tiny.pmc("unlearn", *SHORT)
    done = tiny.succeed("unlearn", *SHORT)  # resumes
    found = tiny.results()["heldout"]
    assert found["rows"] == found["evaluated"] == 8 and found["not_measured"] is None
    assert 0 <= found["before"] <= 1 and 0 <= found["after"] <= 1
    assert "The model was not trained on 8 of the questions to keep." in done.out
    assert "heldout" not in tiny.results()["before"]
    config = load_config("run.yaml")
    inputs = read_inputs(config)
    trained, heldout = inputs.trained_retain.ids, inputs.heldout_retain.ids
    assert len(heldout) == 8 and not {*trained} & {*heldout}
    assert {*trained, *heldout} == {*inputs.retain.ids}
    other = read_inputs(load_config("run.yaml", ["seed=1"]))
    assert other.heldout != inputs.heldout and other.digests == inputs.digests
    more = ["data.retain_more=[again.jsonl]", "data.retain_test_size=0.3"]
    inputs = read_inputs(load_config("run.yaml", more))
    assert len(inputs.heldout) == 13 and max(inputs.heldout) < 44


@pytest.mark.slow
def test_the_library_measures_them_too(tmp_path):
    lm = pmc_jax.load(tiny.write_model(tmp_path / "model"))
    pairs = [(row["question"], row["answer"]) for row in MANY]
    forget = [row["question"] for row in tiny.FORGET]
    how = dict(config=tiny.pmc_config(epochs=1, num_samples=2, max_new_tokens=4, max_attempts=1))
    result = pmc_jax.unlearn(lm, forget, pairs, **how)
    assert result.heldout["rows"] == 8 and 0 <= result.heldout["after"] <= 1
