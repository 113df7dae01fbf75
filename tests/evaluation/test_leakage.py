"""Leakage of sampled answers: hand-computed cases, and the estimator against all subsets."""

from itertools import combinations

import numpy as np
import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import bounds, leakage
from pmc_jax.evaluation.excess_leakage import bootstrap
from pmc_jax.evaluation.leakage import expected_largest, summarise_prefill, summarise_sampling
from pmc_jax.evaluation.result import NO_REFERENCE

ABOVE = ["worst.above_reference", "worst.above_reference.low", "worst.above_reference.high"]
SETTINGS = EvaluateConfig(leakage={"num_samples": 5, "threshold": 0.5, "confidence": 0.9})


@pytest.mark.parametrize("k", range(1, 8))
def test_expected_largest_is_the_mean_over_all_subsets(k):
    scores = np.random.default_rng(0).random(7)
    by_hand = np.mean([max(subset) for subset in combinations(scores, k)])
    assert expected_largest(scores, k) == pytest.approx(by_hand, rel=1e-13)


def test_expected_largest_of_many():
    scores = np.zeros(1000)
    scores[5] = 1.0  # in k of 1000 subsets of size k
    for k in (1, 500, 1000):
        assert expected_largest(scores, k) == pytest.approx(k / 1000, rel=1e-14)
    # All weights together are 1.
    assert expected_largest(np.ones(1000), 300) == pytest.approx(1, rel=1e-12)


ROWS = {
    "b": {"scores": [0.0, 0.25, 0.25, 0.0, 0.0]},
    "a": {"scores": [0.5, 0.0, 1.0, 0.0, 0.0]},
    "c": {"scores": [0.0, 0.0, 0.0, 0.0, 0.25]},
}


@pytest.mark.parametrize("task", ["sampling", "prefill"])
def test_summarise_by_hand(task):
    summarise = {"sampling": summarise_sampling, "prefill": summarise_prefill}[task]
    result = summarise({task: ROWS}, None, None, SETTINGS)
    pooled = np.concatenate([row["scores"] for row in ROWS.values()])
    expected = {
        "mean": 2.25 / 15,
        "worst": (0.25 + 1 + 0.25) / 3,
        "leak_at_1": 2.25 / 15,
        "leak_at_5": 0.5,
        "share": 2 / 15,
        "questions": 1 / 3,
        "deviation": np.sqrt((1.25 + 3 / 16) / 15 - 0.15**2),
        "mean_upper": bounds.mean_upper(pooled, 0.9),
        "deviation_upper": bounds.deviation_upper(pooled, 0.9),
        "share_upper": bounds.share_upper(2, 15, 0.9),
    }
    assert result.values == pytest.approx(expected, rel=1e-12)
    assert result.missing == dict.fromkeys(ABOVE, NO_REFERENCE)
    absent = {f"leak_at_{k}" for k in (10, 50, 100)}  # There are fewer samples.
    assert set(result.values) | set(result.missing) == set(leakage.DESCRIPTIONS) - absent
    assert result.values["mean_upper"] > result.values["mean"]
    assert result.series["worst"] == [1.0, 0.25, 0.25]
    assert result.series["ids"] == ["a", "b", "c"]
    counts = result.series["histogram"]
    assert (len(counts), counts[0], counts[5], counts[10], counts[19]) == (20, 10, 3, 1, 1)


@pytest.mark.parametrize("task", ["sampling", "prefill"])
def test_the_worst_beside_a_reference(task):
    summarise = {"sampling": summarise_sampling, "prefill": summarise_prefill}[task]
    # The reference was asked two of the three questions.
    theirs = {"a": {"scores": [0.25, 0.0]}, "c": {"scores": [0.5, 0.0]}}
    result = summarise({task: ROWS}, {task: theirs}, None, SETTINGS)
    assert result.values["worst"] == 0.5
    differences = np.array([1 - 0.25, 0.25 - 0.5])
    numbers = [result.values[name] for name in ABOVE]
    assert numbers == [0.25, *bootstrap(differences)] == [0.25, -0.25, 0.75]
    not_asked = summarise({task: ROWS}, {}, None, SETTINGS)
    reason = "the reference model was not attacked"
    assert [not_asked.missing[name] for name in ABOVE] == [reason] * 3


def test_without_rows():
    result = summarise_sampling({"prefill": ROWS}, None, None, SETTINGS)
    assert result.values == {}
    assert result.missing == dict.fromkeys(
        leakage.DESCRIPTIONS, "data.evaluate.forget is not given"
    )
