"""Moments E[e^r] and Var[e^r] for `dynamics.bound`, in a real run and after refits on its samples.

Letters: Q questions, M measured samples per question, K samples per choice, T rounds. A reward is
r = 1 - score. This module reads scores. It does not sample answers and does not score them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pmc_jax.theory.dynamics import bound, curated, exp_reward, rows_of, trajectory


def reward_moments(
    scores: Sequence[Sequence[float]] | np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Computes E[e^r] and Var[e^r] of a model's samples, averaged over the questions.

    The variance is the population variance of the M samples. In expectation, the variance of the
    model is M / (M - 1) times as large, so the resulting bound is slightly too low.

    Args:
        scores: score of each sample, float [Q, M]. Lower is better.
        confidence: confidence of the percentile bootstrap intervals over questions.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples.

    Returns:
        A dictionary with these entries.

            exp_reward_mean, low, high: mean of E[e^r] and its confidence interval.
            exp_reward_var, var_low, var_high: mean of Var[e^r] and its confidence interval.
            exp_reward_max: e^{r*}, where r* is the largest reward. r* is 1, the reward of score 0,
                or larger if a score is below 0.

    Raises:
        ValueError: there are no scores, or a score is not finite.
    """
    scores = _scores(scores)
    w = np.exp(1 - scores)
    each = np.stack([w.mean(1), w.var(1)])  # [2, Q]
    count = each.shape[1]
    rng = np.random.default_rng(seed)
    again = [each[:, rng.integers(count, size=count)].mean(1) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    (low, var_low), (high, var_high) = np.quantile(again, (tail, 1 - tail), axis=0).tolist()
    mean, var = each.mean(1).tolist()
    return {
        "exp_reward_mean": mean,
        "low": low,
        "high": high,
        "exp_reward_var": var,
        "var_low": var_low,
        "var_high": var_high,
        "exp_reward_max": _largest(scores),
    }


def exact_refit(
    scores: Sequence[Sequence[float]] | np.ndarray, k: float, tau: float, rounds: int
) -> list[dict[str, Any]]:
    """Computes E[e^r] and Var[e^r] after exact refits with `curated` on each question's M samples.

    The initial distribution of a question is the empirical distribution of its M samples. A refit
    therefore never reaches a score that no sample had, and the curve describes these samples, not
    the model. The curve does not include answers from earlier rounds, retain data or gradient
    steps.

    Args:
        scores: score of each sample, float [Q, M]. Lower is better.
        k: number of samples K.
        tau: temperature of the choice. 0 chooses the best of K.
        rounds: number of rounds T.

    Returns:
        One dictionary per round with the entries of `beside_bound`, averaged over the questions.
        The bound uses r* as in `reward_moments`, and is None if tau > 1.

    Raises:
        ValueError: there are no scores, a score is not finite, or k or tau is out of range.
    """
    scores = _scores(scores)
    moments = np.zeros((2, rounds + 1))
    for row in scores:
        reward, counts = np.unique(1 - row, return_counts=True)
        path = trajectory(lambda p, r=reward: curated(p, r, k, tau), counts / counts.sum(), rounds)
        moments += exp_reward(path, reward)
    mean, var = moments / len(scores)
    lower = [None, *bound(mean[:-1], var[:-1], k, _largest(scores)).tolist()]
    return rows_of(mean, var, lower if tau <= 1 else [None] * (rounds + 1))


def _largest(scores: np.ndarray) -> float:
    return math.exp(max(1.0, 1 - scores.min()))


def _scores(scores: Any) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            f"scores: the array of shape {scores.shape} is invalid. Pass finite scores [questions, "
            "samples] with at least one of each."
        )
    return scores
