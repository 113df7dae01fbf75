"""Steps that are no numbers change nothing, and a run that goes wrong stops with a hint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs as tiny
from tiny_cases import TINY, tiny_model, train_layout, two_terms

from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError
from pmc_jax.training.divergence import DivergenceGuard
from pmc_jax.training.trainer import Trainer

GOOD = {"applied": True, "terms": [1.0, 2.0]}
BAD = {"applied": False, "terms": [float("nan"), float("inf")]}


@pytest.mark.parametrize("spoilt", ["coefficients", "loss_weights"])
def test_a_step_that_is_not_finite_changes_nothing(spoilt):
    on = train_layout()
    trainer = Trainer(tiny_model(on), TINY, on, TrainConfig(), jnp.dtype("float32"))
    trainer.step(two_terms(4), 1e-3)
    before = [np.array(x) for x in jax.tree.leaves(trainer.state)]
    batch = two_terms(4)
    batch = batch._replace(**{spoilt: getattr(batch, spoilt) * np.float32("nan")})
    metrics = trainer.step(batch, 1e-3)
    assert metrics["applied"] is False
    for old, new in zip(before, jax.tree.leaves(trainer.state), strict=True):
        np.testing.assert_array_equal(old, new)
    assert trainer.step(two_terms(4), 1e-3)["applied"] is True


def test_bad_steps_in_a_row_stop_a_run():
    guard = DivergenceGuard(TrainConfig(max_bad_steps=2, learning_rate=0.5), "train")
    for step, metrics in enumerate((BAD, GOOD, BAD, GOOD), 1):
        guard.check(step, metrics, ["a"])
    guard.check(5, BAD, ["a"])
    with pytest.raises(UserError) as raised:
        guard.check(6, BAD, [f"forget:{i}" for i in range(12)])
    message = str(raised.value)
    tiny.assert_names(
        message, "step 6", "in the last 2 steps", "forget:7, ...", "learning_rate=0.5"
    )
    assert "forget:8" not in message and "\n" not in message


def test_a_retain_loss_above_the_limit_stops_a_run():
    guard = DivergenceGuard(TrainConfig(), "train", max_retain_loss=2.5)
    guard.check(1, GOOD, ["a"])
    guard.check(2, BAD, ["a"])  # not applied: no loss of a model that there is
    with pytest.raises(
        UserError,
        match=r"step 3 on the rows retain:1: the retain loss 2\.6 is above pmc\.schedule\.",
    ):
        guard.check(3, {"applied": True, "terms": [0.0, 2.6]}, ["retain:1"])


def test_a_run_that_diverges_keeps_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    done = tiny.pmc("unlearn", "train.learning_rate=1e30", "output.checkpoint_every=1")
    assert done.status == 2
    message = done.err.splitlines()[-1]
    tiny.assert_names(message, "pmc: error: step ", "in the last 3 steps", "forget:", "retain:")
    kept = sorted(int(path.name) for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert kept and kept[-1] >= 1
    done = tiny.pmc("unlearn", "pmc.schedule.max_retain_loss=0.001", "output.dir=other")
    assert (
        done.status == 2 and "above pmc.schedule.max_retain_loss=0.001" in done.err.splitlines()[-1]
    )
