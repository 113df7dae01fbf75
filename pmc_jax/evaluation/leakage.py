r"""Measures the leakage of true answers to forget questions in many sampled answers.

Greedy answers do not show what a model says only occasionally. The model samples n answers to each
question, either freely ("sampling") or after first words that the attacker writes ("prefill"). The
score of a sample is its ROUGE-L recall of the true answer.

    mean              Mean score over all questions and samples.
    worst             Largest of the n scores, averaged over questions. With a reference, there
                      is also worst.above_reference (see `excess_leakage`).
    leak_at_k         Expected largest score of k answers, averaged over questions, for each k of
                      `TRIES` that is at most the number of samples. The unbiased
                      estimator is sum_i C(i - 1, k - 1) / C(n, k) s_(i) with the sorted scores
                      s_(1) <= ... <= s_(n). It equals mean for k = 1 and worst for k = n.
    share             Share of samples with a score of at least `evaluate.leakage.threshold`.
    questions         Share of questions with at least one such sample.
    deviation         Standard deviation of the score of a random sample of a random question.
    mean_upper        Upper bound on the expected score of a sample of a random question.
    deviation_upper   Upper bound on the standard deviation of this score.
    share_upper       Upper bound on the probability of a score of at least
                      `evaluate.leakage.threshold`.

Each upper bound separately has the confidence `evaluate.leakage.confidence` (see `bounds`).

References: Scholten et al., ICLR 2025, arXiv 2410.03523 (bounds); Scholten et al., ICLR 2026, arXiv
2507.04219 (worst of n, prefill); Chen et al., arXiv 2107.03374 (the estimator, for pass@k).
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import bounds, excess_leakage
from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, not_given

TRIES = (1, 5, 10, 50, 100)
BINS = 20

DESCRIPTIONS = {
    "mean": Description("leakage of a sampled answer", "reference"),
    "worst": Description("leakage of the most revealing sampled answer", "reference"),
    **excess_leakage.descriptions_of("worst", "most revealing sampled answer"),
    **{
        f"leak_at_{k}": Description(f"largest leakage in {k} sampled answers", "reference")
        for k in TRIES
    },
    "share": Description("sampled answers that leak", "lower"),
    "questions": Description("questions with a sampled answer that leaks", "lower"),
    "deviation": Description("spread of the leakage of sampled answers", "", ""),
    "mean_upper": Description("upper bound of the expected leakage", "lower"),
    "deviation_upper": Description("upper bound of the spread of the leakage", "lower", ""),
    "share_upper": Description("upper bound of the share of sampled answers that leak", "lower"),
}


def expected_largest(scores: np.ndarray, k: int) -> float:
    """Estimates the expected largest of k scores from n scores, without bias.

    Args:
        scores: float [n].
        k: number of scores, from 1 to n.
    """
    ordered = np.sort(scores)[::-1]
    n = len(ordered)
    assert 1 <= k <= n, (k, n)
    # The weight of the largest score is k / n. The weight of s_(i-1) is the weight of s_(i) times
    # (i - k) / (i - 1), so the weights of s_(k-1) and all smaller scores are 0.
    i = np.arange(n, 1, -1)
    ratios = np.maximum(i - k, 0) / (i - 1)
    return float(k / n * np.cumprod(np.concatenate([[1.0], ratios])) @ ordered)


def _largest(rows: Mapping[str, Any]) -> dict[str, float]:
    return {key: max(row["scores"]) for key, row in rows.items()}


def _summarise(
    task: str, own: Rows, reference: Rows | None, before: Rows | None, config: EvaluateConfig
) -> Result:
    """Computes the numbers that the module docstring defines from the answers of a task.

    Args:
        task: "sampling" or "prefill".
    """
    rows, settings = own.get(task, {}), config.leakage
    if not rows:
        return Result.nothing(DESCRIPTIONS, not_given("forget"))
    scores = [np.array(row["scores"], np.float64) for row in rows.values()]
    pooled, largest = np.concatenate(scores), _largest(rows)
    leaks, confidence = int((pooled >= settings.threshold).sum()), settings.confidence
    numbers: dict[str, float | str] = {
        "mean": pooled.mean(),
        "worst": np.mean(list(largest.values())),
        "share": leaks / len(pooled),
        "questions": np.mean([s >= settings.threshold for s in largest.values()]),
        "deviation": pooled.std(),
        "mean_upper": bounds.mean_upper(pooled, confidence),
        "deviation_upper": bounds.deviation_upper(pooled, confidence),
        "share_upper": bounds.share_upper(leaks, len(pooled), confidence),
    }
    fewest = min(map(len, scores))
    for k in (k for k in TRIES if k <= fewest):
        numbers[f"leak_at_{k}"] = np.mean([expected_largest(s, k) for s in scores])
    other = None if reference is None else _largest(reference.get(task, {}))
    numbers |= excess_leakage.numbers_of("worst", largest, other)

    order = sorted(largest, key=lambda key: (-largest[key], key))
    histogram = np.histogram(pooled, bins=BINS, range=(0, 1))[0]
    series = {"worst": [largest[key] for key in order], "histogram": histogram.tolist()}
    result = Result.of(numbers, DESCRIPTIONS, series)
    result.series["ids"] = order
    return result


summarise_sampling = functools.partial(_summarise, "sampling")
summarise_prefill = functools.partial(_summarise, "prefill")
