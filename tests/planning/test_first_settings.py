"""The rule of `pmc init`: its table, its limits, and settings that the schema accepts."""

import dataclasses
import re
from pathlib import Path

import pytest

from pmc_jax.config.run import config_from_dict
from pmc_jax.planning.first_settings import (
    Situation,
    answer_room,
    first_settings,
    learning_rate,
    nested,
    row_room,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "first-settings.md"
SMALL = Situation(
    questions=12,
    weights=134_515_008,
    answer_tokens=18,
    answer_words=8,
    row_tokens=72,
    token_bytes=46_080,
    free_bytes=10e9,
    on_cpu=True,
    has_retain_rows=True,
)


def chosen(**changes) -> dict:
    return {c.name: c.value for c in first_settings(dataclasses.replace(SMALL, **changes))}


def test_the_table_of_the_page_is_the_rule():
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.M)
    assert len(rows) >= 6
    for row in rows:
        questions, per_step, epochs, steps, warmup = map(int, row)
        values = chosen(questions=questions)
        assert values["train.batch_size"] == per_step
        assert values["pmc.schedule.epochs"] == epochs
        assert steps == -(-questions * epochs // per_step)
        assert values["train.warmup_steps"] == warmup == steps // 2


@pytest.mark.parametrize("questions", [1, 2, 3, 7, 16, 17, 60, 80, 81, 400, 100_000])
def test_each_run_has_enough_steps_and_is_accepted(questions):
    values = chosen(questions=questions)
    steps = -(-questions * values["pmc.schedule.epochs"] // values["train.batch_size"])
    epochs = values["pmc.schedule.epochs"]
    assert steps >= 72 and (epochs >= 12 or (epochs >= 5 and steps > 220))
    config_from_dict(nested(first_settings(dataclasses.replace(SMALL, questions=questions))))


def test_learning_rates_at_and_between_two_models():
    assert learning_rate(134_515_008) == 1e-3
    assert learning_rate(10_000_000) == 1e-3
    assert learning_rate(1_418_000_000) == learning_rate(3_200_000_000) == 1.2e-4
    rates = [learning_rate(n) for n in (135_000_000, 360_000_000, 500_000_000, 1_300_000_000)]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 4


@pytest.mark.parametrize(("questions", "epochs"), [(1, 60), (8, 15), (12, 10), (400, 5)])
def test_own_answers_alone_have_fewer_steps_and_focus(questions, epochs):
    values = chosen(questions=questions, has_retain_rows=False)
    assert values["pmc.schedule.epochs"] == epochs
    assert values["pmc.schedule.focus"] == 0.5 and "pmc.schedule.focus" not in chosen()


@pytest.mark.parametrize(
    ("questions", "given", "weight"),
    [(16, True, 8), (17, True, 4), (16, False, 10), (17, False, 4)],
)
def test_many_questions_have_a_lower_weight(questions, given, weight):
    values = chosen(questions=questions, has_retain_rows=given)
    assert values["pmc.schedule.lambda_retain"] == weight


def test_long_answers_may_repeat_a_few_words():
    assert chosen()["pmc.score.threshold"] == 0
    assert chosen(answer_words=30)["pmc.score.threshold"] == 0.12


def test_room_for_answers_and_rows():
    assert [answer_room(n) for n in (1, 18, 32, 77, 10**6)] == [32, 32, 48, 112, 512]
    assert [row_room(n) for n in (0, 72, 230, 300)] == [256, 256, 256, 384]


def test_memory_decides_over_answers_at_once():
    at_once = [
        chosen(on_cpu=False, token_bytes=114_688, free_bytes=free)["pmc.sampling.batch_size"]
        for free in (1e9, 4e9, 10e9, 140e9)
    ]
    assert at_once == [16, 64, 256, 256]
