"""`evaluate.keep_best`: the best measured step of a run is kept and exported."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.artifacts import checkpoint
from pmc_jax.commands import unlearning_run
from pmc_jax.commands.keep_best import best_round
from pmc_jax.evaluation.harness import measure_quality
from pmc_jax.training.trainer import Trainer

ROUNDS = [
    {"step": 1},
    {"step": 2, "unlearn_quality": 20.0, "utility": 90.0},
    {"step": 4, "unlearn_quality": 90.0, "utility": 10.0},
    {"step": 6, "unlearn_quality": 60.0, "utility": 50.0},
    {"step": 8, "unlearn_quality": 60.0, "utility": 50.0},
    {"step": 9},
]


@pytest.mark.parametrize(
    ("rule", "step", "value"),
    [
        ("unlearn_quality", 4, 90),
        ("utility", 2, 90),
        ("mean", 8, 55),
        ("min", 8, 50),  # of equal steps the last
        ("harmonic_mean", 8, 2 * 60 * 50 / 110),
    ],
)
def test_the_best_round_by_each_rule(rule, step, value):
    assert best_round(rule, ROUNDS) == {"step": step, "value": pytest.approx(value)}


def test_without_a_rule_or_a_measurement_there_is_no_best_round():
    assert best_round(None, ROUNDS) is None
    assert best_round("utility", [{"step": 1}, {"step": 2}]) is None
    only_utility = [{"step": 1, "unlearn_quality": None, "utility": 3.0}]
    assert best_round("utility", only_utility) == {"step": 1, "value": 3.0}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["evaluate.every=0"], ["evaluate.keep_best", "Set evaluate.every"]),
        (["data.evaluate=null"], ["data.evaluate.forget", "forget_paraphrased", "retain"]),
        (["data.evaluate={forget: forget.jsonl, retain: retain.jsonl}"], ["forget_paraphrased"]),
        (["evaluate.keep_best=loss"], ["unlearn_quality, utility, mean, harmonic_mean, min"]),
    ],
)
def test_a_rule_needs_measurements_and_rows(settings, parts, inputs):
    options = ["evaluate.keep_best=harmonic_mean", "evaluate.every=2"]
    tiny.assert_names(tiny.refused("unlearn", *options, *settings), *parts)


OPTIONS = ["evaluate.keep_best=utility", "evaluate.every=2", "pmc.schedule.epochs=4"]
OPTIONS += ["output.keep=1", "output.checkpoint_every=1"]


@pytest.fixture
def step_two_is_best(monkeypatch) -> Iterator[None]:
    """Utility is 99 at the first measurement between rounds and 1 at all others, of six steps."""
    measured = []

    def measure(model, *arguments):
        numbers, answers = measure_quality(model, *arguments)
        if model.name == "evaluate":
            measured.append(1)
            numbers = numbers | {"utility": 99.0 if len(measured) == 1 else 1.0}
        return numbers, answers

    monkeypatch.setattr(unlearning_run, "measure_quality", measure)


def _steps() -> list[str]:
    return sorted(path.name for path in Path("out/checkpoints").iterdir())


def test_the_best_step_is_exported_and_said(inputs, step_two_is_best):
    with tiny.crashing(Trainer, "step", 5):
        tiny.pmc("unlearn", *OPTIONS)
    assert _steps() == ["2", "5"]  # the best and the newest
    done = tiny.succeed("unlearn", *OPTIONS)
    why = "the best measured value of evaluate.keep_best=utility (99.0); the last step, 6, has 1.0"
    assert any(line.endswith(f"out: pmc exports step 2 of 6: {why}") for line in done.lines)
    assert _steps() == ["2", "6"]
    results = tiny.results()
    assert results["step"] == 2 and results["best"] == why
    assert [one["step"] for one in results["rounds"]] == [1, 2, 3, 4, 5, 6]
    # The weights, the numbers and the answers are those of the second step.
    before = tiny.digest(Path("out/model"))
    numbers = tiny.pmc("evaluate", "model.path=out/model").lines[-1]
    assert f'"utility": {results["after"]["utility"]}' in numbers
    export = tiny.succeed("export", "--overwrite")
    assert export.lines == [f"pmc wrote out/model: the unlearned weights of step 2 of 6: {why}"]
    assert tiny.digest(Path("out/model")) == before
    assert tiny.pmc("verify", config="out").status == 0
    tiny.succeed("export", "--partial")
    assert not tiny.same_weights("out/model-step-6", "out/model")
    assert "chosen by the same questions" in Path("out/report.html").read_text()


def test_a_best_step_that_cannot_be_read_is_warned_of(
    inputs, step_two_is_best, monkeypatch, caplog
):
    def damaged(*_):
        raise OSError("damaged")

    monkeypatch.setattr(checkpoint.Checkpoints, "restore", damaged)
    tiny.succeed("unlearn", *OPTIONS)
    assert (
        "step 2 has the best measured value of evaluate.keep_best=utility (99.0), but its "
        "checkpoint cannot be restored" in caplog.text
    )
    assert tiny.results()["step"] == 6 and tiny.results()["best"] is None


def test_the_last_step_is_measured_once_where_it_is_best(inputs):
    done = tiny.succeed("unlearn", *OPTIONS, "evaluate.every=100")
    assert any("pmc exports step 6 of 6: the best measured value" in line for line in done.lines)
    results = tiny.results()
    assert results["step"] == 6
    assert results["rounds"][-1]["utility"] == results["after"]["utility"]
    assert "utility" not in results["rounds"][-2]
