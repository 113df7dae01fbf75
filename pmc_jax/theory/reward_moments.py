"""The two moments of the theorem in a real run, and what exact refits would make of its start.

Letters: Q questions, M samples a question that were measured, K samples a choice, T rounds. A
reward is r = 1 - score. Not known here: how samples were drawn and scored.
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
    """E[e^r] and Var[e^r] of samples of a model, of each question, averaged over the questions.

    The variance is that of the M samples as they are; the model's own is M / (M - 1) times as large
    in expectation, which makes the bound that follows from it a little lower, not higher.

    Args:
        scores: float [Q, M], lower is better; r = 1 - score.
        confidence: of the intervals: percentiles over questions that are drawn with replacement.
        resamples: draws for them.
        seed: of them.

    Returns:
        `exp_reward_mean` with `low` and `high`, `exp_reward_var` with `var_low` and `var_high`, and
        `exp_reward_max`: e^{r*} with r* = 1, the reward of score 0 (more only where a score is
        below 0).

    Raises:
        ValueError: no scores, or some that are not finite.
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
    """What exact refits would make of a measured model: `curated` on each question's M samples.

    Each question starts as the distribution of its own M samples, so a score that none of them had
    is never reached, and the curve is that of these samples, not of the model behind them. Answers
    that were kept from earlier rounds, retain data and gradient steps are not in it.

    Args:
        scores: float [Q, M], lower is better.
        k: K.
        tau: temperature of the choice; 0 is the best of K.
        rounds: T.

    Returns:
        As of `beside_bound`, averaged over the questions, with r* = 1 in the bound (for tau <= 1).

    Raises:
        ValueError: no scores, some that are not finite, or k or tau out of range.
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
        raise ValueError("scores are finite numbers [questions, samples], at least one of each")
    return scores
