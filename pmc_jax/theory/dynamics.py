"""Exact and sampled dynamics of collapse for a categorical distribution, and a bound on E[e^r].

    lottery    samples of p_t, optionally with retain counts            `lottery`
    mixing     p_{t+1} = (p_t + alpha p_r) / (1 + alpha)                `mix`, `mixed`
    curation   one of K samples, chosen by reward r at temperature tau  `curated`, `curated_counts`
    bound      E_{t+1}[e^r] >= E_t[e^r] + (K-1)/K Var_t[e^r] / e^{r*}   `bound`, `beside_bound`

Letters: n categories, T rounds, K samples per choice, L reward levels, S quadrature nodes.

Scholten, Xhonneux, Schwinn, Günnemann, arXiv 2507.04219 (unlearning by collapse);
Ferbach, Bertrand, Bose, Gidel, arXiv 2407.09499 (choice among K, the bound, the limits).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Number of balls of each colour in an urn of 100. The first three colours are to be forgotten.
COLOURS = (5, 10, 20, 15, 10, 10, 5, 10, 10, 5)
FORGOTTEN = 3

# Spacing of the quadrature nodes. The error decreases like exp(-pi² / spacing) and is below 1e-16
# for this spacing.
_SPACING = 0.25
# exp(-exp(_LARGE)) is 0 in float64, and 1 + K exp(-_FAR) rounds to 1 for every K up to 10^10.
_LARGE, _FAR = 7.0, 60.0


def trajectory(step: Callable[[np.ndarray], np.ndarray], p: np.ndarray, rounds: int) -> np.ndarray:
    """Applies a map repeatedly and returns p, step(p), step(step(p)), ... as one array.

    Args:
        step: map from the distribution of a round to that of the next round.
        p: initial distribution.
        rounds: number of times that the map is applied.

    Returns:
        The distributions, float64 [rounds + 1, ...].
    """
    path = [np.asarray(p, np.float64)]
    for _ in range(rounds):
        path.append(step(path[-1]))
    return np.stack(path)


# The following functions have no preference among samples.


def lottery(
    p: np.ndarray,
    rounds: int,
    rng: np.random.Generator,
    *,
    draws: int,
    retain: np.ndarray | None = None,
) -> np.ndarray:
    """Simulates refits on finite samples, with p_{t+1} = (counts + retain) / total.

    Here, counts are the counts of `draws` samples of p_t, and total is `draws` + sum(retain).
    Without retain counts, the shares are martingales. The expected diversity 1 - sum p_t² decreases
    by the factor 1 - 1/draws per round, so one category remains in the limit. Category i remains
    with probability p_0[i]. With retain counts, E[p_t] follows `mixed` with alpha = sum(retain) /
    draws. A category without retain counts is lost forever once no sample has this category. The
    shares of the other categories fluctuate around the retain shares.

    Args:
        p: initial distribution, float [..., n]. Each index of the first axes is its own lottery.
        rounds: number of rounds T.
        rng: random generator for the samples.
        draws: number of samples per round.
        retain: retain counts [n] that are added in every round. None adds no counts.

    Returns:
        The distribution in every round, float64 [rounds + 1, ..., n].
    """
    added = np.zeros(np.shape(p)[-1]) if retain is None else np.asarray(retain, np.float64)
    total = draws + added.sum()
    return trajectory(lambda q: (rng.multinomial(draws, q) + added) / total, _checked(p), rounds)


def mix(p: np.ndarray, retain: np.ndarray, alpha: float) -> np.ndarray:
    """Computes the refit on p and retain data, (p + alpha retain) / (1 + alpha), float64 [n].

    Args:
        p: distribution, float [n].
        retain: retain distribution, float [n].
        alpha: amount of retain data, relative to the samples of p.
    """
    return (_checked(p) + alpha * _checked(retain, "retain")) / (1 + alpha)


def mixed(p: np.ndarray, retain: np.ndarray, alpha: float, rounds: int) -> np.ndarray:
    """Computes the distribution in all rounds of `mix` in closed form, float64 [rounds + 1, n].

    The formula is p_t = [1 - (1 + alpha)^-t] p_r + (1 + alpha)^-t p_0, where p_0 is `p` and p_r is
    `retain`. The arguments are those of `mix`, and `rounds` is the number of rounds.
    """
    old = (1 + alpha) ** -np.arange(rounds + 1.0)[:, None]  # [T + 1, 1]
    return (1 - old) * _checked(retain, "retain") + old * _checked(p)


# The following functions prefer samples with a high reward.


def curated(p: np.ndarray, reward: np.ndarray, k: float, tau: float = 1.0) -> np.ndarray:
    """Computes the distribution of a sample that is chosen among K samples of p.

    The choice has the probabilities P(i) = e^{r_i/tau} / sum e^{r_j/tau}. With w = e^{r/tau} and
    K - 1 other samples, p'(x) = p(x) K E[w(x) / (w(x) + sum of others' w)]. Because 1/a is the
    integral of e^{-as} over s > 0, this expression equals

        p'(x) = p(x) K ∫ w(x) e^{-s w(x)} E[e^{-s w}]^{K-1} ds,

    and the trapezoidal rule over log s computes this integral exactly up to rounding (the tests
    find differences of at most 1e-12 from enumeration). Special cases are:

    - tau = 0 chooses the best of K, and breaks ties in proportion to p.
    - k = inf gives p' ∝ p e^{r/tau}.
    - tau = 0 and k = inf give the limit of curation, p(x | r(x) = r*). Here, r* is the largest
      reward in the support of p.

    Args:
        p: distribution float [n].
        reward: reward of each category, float [n].
        k: number of samples K, at least 1, or math.inf.
        tau: temperature, at least 0. math.inf leaves p unchanged.

    Returns:
        The distribution of the chosen sample, float64 [n].

    Raises:
        ValueError: p is not a distribution, rewards are not one finite number per category, or k or
            tau is out of range.
    """
    p, reward = _checked(p), _rewards(p, reward)
    _check_choice(k, tau)
    support = p > 0
    levels, level_of = np.unique(reward[support], return_inverse=True)  # [L], ascending
    mass = np.bincount(level_of, p[support])
    if k == 1 or len(levels) == 1:
        ratio = np.ones_like(mass)
    elif tau == 0:
        ratio = _best(mass, k)
    else:
        with np.errstate(over="ignore"):
            gaps = np.minimum(np.diff(levels) / tau, _FAR)
        log_w = -np.append(np.cumsum(gaps[::-1])[::-1], 0.0)  # <= 0
        w = np.exp(log_w)
        ratio = w / (mass @ w) if math.isinf(k) else _bradley_terry(mass, log_w, k)
    new = np.zeros_like(p)
    new[support] = p[support] * ratio[level_of]
    assert abs(new.sum() - 1) < 1e-9, new.sum()
    return new / new.sum()


def _best(mass: np.ndarray, k: float) -> np.ndarray:
    """Computes the ratio p'/p of each reward level for the best of K, float64 [L].

    Args:
        mass: probability of each level under p, float64 [L], in ascending order of the reward.
        k: number of samples K.
    """
    # `at_least` is P(a sample has at least this level). `reached` is the same for the best of K.
    at_least = np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)
    at_least[0] = 1.0
    reached = np.append(zero_score_pick(at_least, k), 0.0)
    return -np.diff(reached) / mass


def _bradley_terry(mass: np.ndarray, log_w: np.ndarray, k: float) -> np.ndarray:
    """Computes the ratio p'/p of each reward level at a temperature above 0, float64 [L].

    Args:
        mass: probability of each level under p, float64 [L].
        log_w: (reward of the level - largest reward) / tau, float64 [L].
        k: number of samples K, which is finite.
    """
    # Below the first node, s w is 0 up to rounding. Above the last node, e^{-sw} is 0 for every w.
    nodes = np.arange(-42.0 - math.log(k), _LARGE - log_w.min(), _SPACING)[:, None]  # log s, [S, 1]
    sw = np.exp(np.minimum(nodes + log_w, _LARGE))  # [S, L]
    mean = np.exp(-sw) @ mass  # E[e^{-sw}], [S]
    less = np.minimum(-np.expm1(-sw) @ mass, 1.0)  # 1 - E[e^{-sw}]
    with np.errstate(divide="ignore"):
        # The two branches are exact at both ends, where K - 1 amplifies rounding errors.
        log_mean = np.where(mean < 0.5, np.log(mean), np.log1p(-less))
    others = np.exp((k - 1) * log_mean)
    return k * _SPACING * (others @ (sw * np.exp(-sw)))


def curated_counts(
    p: np.ndarray, reward: np.ndarray, k: int, tau: float, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Samples how often each category is chosen in `draws` choices among K samples, int64 [n].

    The refit on finite samples is counts / draws, whose expectation is `curated`.

    Args:
        p, reward, tau: the same as in `curated`.
        k: number of samples K, at least 1 and finite.
        draws: number of choices.
        rng: random generator for the samples and choices.
    """
    p, reward = _checked(p), _rewards(p, reward)
    _check_choice(k, tau)
    picks = rng.choice(len(p), size=(draws, k), p=p)
    value = reward[picks]
    if tau:
        # The argmax of r/tau + Gumbel noise has the distribution of the choice.
        value = value / tau + rng.gumbel(size=value.shape)
    chosen = np.take_along_axis(picks, value.argmax(axis=1)[:, None], axis=1)
    return np.bincount(chosen[:, 0], minlength=len(p))


def zero_score_pick(p: np.ndarray | float, k: float) -> np.ndarray | float:
    """Computes the probability 1 - (1 - p)^K that the best of K samples has score 0.

    Here, p is the probability that one sample has score 0.
    """
    with np.errstate(divide="ignore"):
        return -np.expm1(k * np.log1p(-np.asarray(p, np.float64)))


# The following functions compute the bound.


def exp_reward(p: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes E[e^r] and Var[e^r] under distributions.

    Args:
        p: distributions, float [..., n].
        reward: reward of each category, float [n].

    Returns:
        The mean and the variance, float64 [...] each.
    """
    w = np.exp(np.asarray(reward, np.float64))
    mean = np.asarray(p, np.float64) @ w
    return mean, (p * (w - mean[..., None]) ** 2).sum(-1)


def bound(mean: Any, var: Any, k: float, exp_reward_max: float) -> Any:
    """Computes the lower bound E_t[e^r] + (K-1)/K Var_t[e^r] / e^{r*} of E_{t+1}[e^r].

    For tau = 1 and w = e^r, the sample chosen among K has the expectation sum w² / sum w. This
    expectation equals mean(w) + (sum of squared deviations) / sum(w), and sum(w) <= K e^{r*}. For
    tau < 1 and for the best of K, the expectation is at least as large, so the bound also holds.
    For tau > 1, the bound may fail. The bound is linear, so it holds for averages over questions
    with the same r*.

    Args:
        mean: E_t[e^r], a number or an array.
        var: Var_t[e^r], a number or an array.
        k: number of samples K, at least 1, or math.inf.
        exp_reward_max: e^{r*}, which is at least e^r for every r with positive probability.
    """
    return mean + (1 - 1 / k) * var / exp_reward_max


def beside_bound(
    path: np.ndarray,
    reward: np.ndarray,
    k: float,
    *,
    retain: np.ndarray | None = None,
    alpha: float = 0.0,
) -> list[dict[str, Any]]:
    """Computes E[e^r] and Var[e^r] in every round of a curation path, with the bound on E[e^r].

    Args:
        path: distribution in every round, float [T + 1, n]. A round maps p to
            mix(curated(p, reward, k, tau), retain, alpha) with tau <= 1.
        reward: reward of each category, float [n].
        k: number of samples K, at least 1, or math.inf.
        retain: retain distribution p_r, float [n], or None if there is no retain data. The bound
            accounts for the share of p_r.
        alpha: amount of retain data, relative to the samples of p.

    Returns:
        A dictionary per round with these entries.

            round: number of the round, from 0.
            exp_reward_mean, exp_reward_var: E[e^r] and Var[e^r] in this round.
            bound: lower bound of E[e^r] that follows from the previous round, or None in round 0.
    """
    mean, var = exp_reward(path, reward)
    of_retain = 0.0 if retain is None else float(exp_reward(retain, reward)[0])
    top = math.exp(np.max(np.asarray(reward)[(np.asarray(path) > 0).any(0)]))
    lower = (bound(mean[:-1], var[:-1], k, top) + alpha * of_retain) / (1 + alpha)
    return rows_of(mean, var, [None, *lower.tolist()])


def rows_of(mean: np.ndarray, var: np.ndarray, lower: Sequence[Any]) -> list[dict[str, Any]]:
    """Converts moments and bounds of T + 1 rounds to the dictionaries of `beside_bound`."""
    names = ("round", "exp_reward_mean", "exp_reward_var", "bound")
    columns = zip(range(len(mean)), mean.tolist(), var.tolist(), lower, strict=True)
    return [dict(zip(names, row, strict=True)) for row in columns]


def _checked(p: np.ndarray, name: str = "p") -> np.ndarray:
    p = np.asarray(p, np.float64)
    if not (p >= 0).all() or not np.allclose(p.sum(-1), 1, rtol=0, atol=1e-9):
        raise ValueError(f"{name} is not a distribution. Pass non-negative values that sum to 1.")
    return p


def _rewards(p: np.ndarray, reward: np.ndarray) -> np.ndarray:
    reward = np.asarray(reward, np.float64)
    if p.ndim != 1 or reward.shape != p.shape or not np.isfinite(reward).all():
        raise ValueError(
            f"p of shape {p.shape} and reward of shape {reward.shape} must be vectors of one "
            "length with finite rewards. Pass one finite reward per category."
        )
    return reward


def _check_choice(k: float, tau: float) -> None:
    if not k >= 1 or not tau >= 0:
        raise ValueError(
            f"k must be at least 1 and tau at least 0, but k is {k} and tau is {tau}. Correct "
            "k or tau."
        )
