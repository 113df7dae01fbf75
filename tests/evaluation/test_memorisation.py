"""Exact memorisation and extraction strength: hand-computed cases."""

import math

import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import memorisation
from pmc_jax.evaluation.memorisation import exact, extraction, summarise
from pmc_jax.evaluation.result import NOT_FINITE

SETTINGS = EvaluateConfig()


def row(hits, logp=-1.0):
    answer = {"is_argmax": hits, "logp": [logp] * len(hits), "min_k_plus_z": [0.0] * len(hits)}
    return {"answer": answer, "paraphrased": None, "wrong": None, "zlib": 9}


@pytest.mark.parametrize(
    ("hits", "share", "strength"),
    [
        ([1, 1, 1, 1], 1, 1),
        ([0, 1, 1, 1], 0.75, 0.75),
        ([1, 0, 0, 1], 0.5, 0.25),
        # The last token is wrong: nothing can be extracted, yet k stops at n - 1.
        ([1, 1, 1, 0], 0.75, 0.25),
        ([0, 0], 0, 0.5),
        ([0], 0, 1),
        ([1], 1, 1),
    ],
)
def test_one_answer_by_hand(hits, share, strength):
    assert exact(hits) == share
    assert extraction(hits) == strength


def test_summarise_leaves_the_end_token_out():
    rows = {
        "forget/0": row([1, 1, 0]),
        "forget/1": row([0, 1, 0, 0, 1]),
        "forget/2": row([1]),  # nothing but the end token
        "retain/0": row([0, 1, 1]),
    }
    result = summarise({"likelihood": rows}, None, None, SETTINGS)
    assert result.values == {
        "forget.exact": (1 + 0.25) / 2,
        "forget.extraction": (1 + 0.25) / 2,
        "retain.exact": 0.5,
        "retain.extraction": 0.5,
    }
    assert set(result.values) == set(memorisation.DESCRIPTIONS)
    assert result.missing == {}


def test_what_is_missing_is_said():
    rows = {"forget/0": row([0, 1], math.nan)}
    result = summarise({"likelihood": rows}, None, None, SETTINGS)
    assert result.values == {}
    assert result.missing == {
        "forget.exact": NOT_FINITE,
        "forget.extraction": NOT_FINITE,
        "retain.exact": "data.evaluate.retain is not given",
        "retain.extraction": "data.evaluate.retain is not given",
    }
    assert set(summarise({}, None, None, SETTINGS).missing) == set(memorisation.DESCRIPTIONS)
