"""Membership inference: hand-computed cases and the definitions that have to agree."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import membership
from pmc_jax.evaluation.membership import area, lowest_mean, privleak, rate_at, summarise
from pmc_jax.evaluation.result import NO_REFERENCE

SETTINGS = EvaluateConfig()


def row(*logp, z=None, size=10):
    answer = {
        "logp": [*logp, -9.0],
        "min_k_plus_z": [*(z or logp), -9.0],
        "is_argmax": [0] * (len(logp) + 1),
    }
    return {"answer": answer, "paraphrased": None, "wrong": None, "zlib": size}


def rows(forget, holdout):
    sides = (("forget", forget), ("holdout", holdout))
    return {"likelihood": {f"{s}/{i}": r for s, side in sides for i, r in enumerate(side)}}


def test_area_by_hand():
    # Pairs: 3 over 1 and 2, 2 over 1 and as high as 2.
    assert area(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4
    assert area(np.ones(3), np.ones(5)) == 0.5
    assert area(np.zeros(2), np.ones(2)) == 0.0


def test_area_is_mann_whitney():
    draw = np.random.default_rng(0)
    seen, unseen = draw.integers(0, 9, 40), draw.integers(0, 7, 30)
    u = mannwhitneyu(seen, unseen).statistic
    assert area(seen, unseen) == pytest.approx(u / (40 * 30), rel=1e-14)


def test_rate_by_hand():
    unseen = np.arange(20.0)
    seen = np.array([30.0, 19.0, 18.5, 18.0, 5.0])
    assert rate_at(seen, unseen, 0.01) == 1 / 5  # above all of them
    assert rate_at(seen, unseen, 0.05) == 3 / 5  # one false alarm: the threshold is above 18
    assert rate_at(seen, unseen, 1.0) == 1.0
    # All new rows score the same: an alarm for one is one for all.
    assert rate_at(seen, np.full(20, 5.0), 0.05) == 4 / 5


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.29])
def test_rate_is_the_best_of_all_thresholds(share):
    draw = np.random.default_rng(1)
    seen, unseen = draw.integers(0, 30, 50), draw.integers(0, 25, 100)
    best = max(np.mean(seen >= t) for t in range(32) if np.sum(unseen >= t) <= round(share * 100))
    assert rate_at(seen, unseen, share) == best


def test_lowest_mean_by_hand():
    numbers = [-1.0, -5.0, -3.0, -2.0, -4.0, -6.0]
    assert lowest_mean(numbers, 0.4) == -5.5  # 2.4 of them, rounded down
    assert lowest_mean(numbers, 0.1) == -6.0  # one at least


def test_privleak_by_hand():
    assert privleak(0.5, 0.5) == 0
    assert privleak(1.0, 0.5) == -100  # every forget row looks seen
    assert privleak(0.0, 0.5) == 100  # less seen than what no model saw
    assert privleak(0.75, 0.6) == pytest.approx(100 * (0.25 - 0.4) / 0.4, rel=1e-14)


def test_summarise_by_hand():
    own = rows([row(-1.0), row(-3.0, size=30)], [row(-2.0), row(-4.0)])
    reference = rows([row(-2.0), row(-3.0)], [row(-3.0), row(-3.0)])
    result = summarise(own, reference, None, SETTINGS)
    assert set(result.values) == set(membership.DESCRIPTIONS)
    values = result.values
    assert values["loss.auc"] == 3 / 4  # -1 over both, -3 over -4
    assert values["loss.tpr_at_1"] == values["loss.tpr_at_5"] == 1 / 2
    assert values["zlib.auc"] == 1.0  # 10 / 2 / 10 and 12 / 2 / 30 against 11 / 20 and 13 / 20
    assert values["min_k.auc"] == values["min_k_plus.auc"] == 3 / 4
    # Gains over the reference, of two tokens: 1/2 and 0 against 1/2 and -1/2.
    assert values["reference.auc"] == (1 + 0.5 + 1) / 4
    # A = 1/4 against that of the reference, (0 + 0 + 1/2 + 1/2) / 4.
    assert values["privleak"] == pytest.approx(0, abs=1e-12)
    assert result.missing == {}


def test_the_lowest_tokens_leave_the_end_out_and_plus_reads_z():
    own = rows([row(-1.0, -1.0, z=[-5.0, -5.0])], [row(-2.0, -0.5, z=[-1.0, -4.0])])
    values = summarise(own, None, None, SETTINGS).values
    assert values["min_k.auc"] == 1.0  # -1 against -2: the lowest one, the end left out
    assert values["min_k_plus.auc"] == 0.0  # -5 against -4
    assert values["loss.auc"] == 1.0


def test_what_is_missing_is_said():
    own = rows([row(-1.0)], [row(-2.0)])
    result = summarise(own, None, None, SETTINGS)
    lacking = {"privleak", *(f"reference.{n}" for n in ("auc", "tpr_at_1", "tpr_at_5"))}
    assert result.missing == dict.fromkeys(lacking, NO_REFERENCE)
    no_holdout = summarise(rows([row(-1.0)], []), own, None, SETTINGS)
    assert no_holdout.values == {}
    assert no_holdout.missing == dict.fromkeys(
        membership.DESCRIPTIONS, "data.evaluate.holdout is not given"
    )
    assert set(summarise(own, {}, None, SETTINGS).missing) == lacking
    nan = summarise(rows([row(math.nan)], [row(-1.0)]), own, None, SETTINGS)
    assert nan.missing == dict.fromkeys(
        membership.DESCRIPTIONS,
        "the model's numbers are not finite; check whether its training diverged",
    )
    # The reference tells them apart by itself: nothing to divide by.
    told = summarise(own, own, None, SETTINGS)
    assert set(told.missing) == {"privleak"}
