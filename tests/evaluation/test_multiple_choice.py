"""Multiple choice by likelihood: hand-computed cases."""

import math

import numpy as np
import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import multiple_choice
from pmc_jax.evaluation.multiple_choice import rank_weights, scores, summarise

SETTINGS = EvaluateConfig()


def row(*perplexities):
    true, *wrong = ({"logp": [-math.log(p), -math.log(p)]} for p in perplexities)
    return {"answer": true, "paraphrased": None, "wrong": wrong or None, "zlib": 9}


def test_scores_by_hand():
    assert scores(np.log([2.0, 4.0, 4.0])) == pytest.approx([0.5, 0.25, 0.25], rel=1e-14)
    assert scores(np.array([2000.0, 2000.0])) == pytest.approx([0.5, 0.5], rel=1e-15)


@pytest.mark.parametrize(
    ("losses", "shares"),
    [
        ([1, 2, 3], [1, 0, 0]),
        ([3, 1, 2], [0, 0, 1]),
        ([2, 2, 1], [0, 0.5, 0.5]),
        ([1, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_ranks_by_hand(losses, shares):
    assert rank_weights(np.array(losses, np.float64)).tolist() == shares


def test_summarise_by_hand():
    rows = {
        "forget/0": row(2, 4, 4),  # most likely; score 1/2
        "forget/1": row(8, 4, 4),  # least likely; score 1/5
        "forget/2": row(4, 4),  # both, half each; score 1/2
        "forget/3": row(1),  # has no wrong answers
        "retain/0": row(2, 4),
    }
    result = summarise({"likelihood": rows}, None, None, SETTINGS)
    expected = {
        "most_likely": 1.5 / 3,
        "least_likely": 1.5 / 3,
        "chance": (1 / 3 + 1 / 3 + 1 / 2) / 3,
        "true_score": 1.2 / 3,
    }
    assert result.values == pytest.approx(expected, rel=1e-14)
    assert set(expected) == set(multiple_choice.DESCRIPTIONS)
    assert result.series["true_score"] == pytest.approx([0.5, 0.2, 0.5], rel=1e-14)
    assert result.series["rank"] == [1.5, 0.5, 1.0]


def test_the_true_option_is_in_the_words_of_the_wrong_ones_where_the_data_has_it():
    in_its_own_words = row(1, 4, 4)
    in_theirs = {**in_its_own_words, "paraphrased": {"logp": [-math.log(8)]}}
    for one, place in ((in_its_own_words, "most_likely"), (in_theirs, "least_likely")):
        values = summarise({"likelihood": {"forget/0": one}}, None, None, SETTINGS).values
        assert values[place] == 1


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({}, "data.evaluate.forget is not given"),
        ({"forget/0": row(2)}, "data.evaluate.forget has no wrong answers"),
        (
            {"forget/0": row(2, math.nan)},
            "the model's numbers are not finite; check whether its training diverged",
        ),
    ],
)
def test_what_is_missing_is_said(rows, reason):
    result = summarise({"likelihood": rows}, None, None, SETTINGS)
    assert (result.values, result.series) == ({}, {})
    assert result.missing == dict.fromkeys(multiple_choice.DESCRIPTIONS, reason)
