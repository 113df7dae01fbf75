r"""Computes upper confidence bounds on the leakage of a model from sampled answers.

The inputs are n independent samples X_i in [0, 1], for instance the leakage of sampled answers, and
an error e (0.01 for a confidence of 99 %). A bound holds if P(truth > bound) <= e for every model.
Samples of different questions are independent but not identically distributed. "The mean" is then
the mean of their expectations, "the deviation" is the standard deviation of a random sample of a
random question, and "the share" is the mean of the probabilities with which the samples have a
property (are "hits"). The bounds are:

`share_upper`       The Clopper-Pearson bound is the p at which P(Binomial(n, p) <= hits) = e. For
    different probabilities with mean p, Hoeffding (1956) shows P(hits <= c) <= P(Binomial(n, p) <=
    c) if c <= n p - 1, and the reverse if c >= n p. The function therefore returns the larger of
    this p and (hits + 1) / n: if the returned value is below the true p, hits <= n p - 1. For e up
    to 0.2, (hits + 1) / n is larger only if all samples but one are hits.
`mean_upper_dkw`    F is the distribution function and F_n the empirical one. With probability
    1 - e, F >= F_n - m everywhere, and then mean <= 1 - integral of max(F_n - m, 0) over [0, 1].
    m is sqrt(ln(2 e_1 / e) / 2n) with e_1 = 2.718... (Bretagnolle 1980). For identically
    distributed samples, ln(1 / e) would suffice.
`mean_upper_bernstein`    The bound is mean X + sqrt(2 V ln(2 / e) / n) + 7 ln(2 / e) / (3 (n - 1))
    with the sample variance V (divisor n - 1). Source: Maurer and Pontil, Theorem 4, which Theorem
    11 extends to independent samples.
`deviation_upper_sample`    The bound is sqrt(V) + sqrt(2 ln(1 / e) / (n - 1)) (Maurer and Pontil,
    Theorem 10). For independent samples, it bounds sqrt(E V), which equals the deviation of
    identically distributed samples and is never below the deviation of others.
`deviation_upper_dkw`    variance <= E (X - c)^2 for every c. The right side is largest if F is at
    the upper edge of the band F_n +- m below c and at its lower edge above c. The bound is the
    minimum over c; m is as above.

`mean_upper` and `deviation_upper` return the smaller of their two bounds, each with half the error.

References: Scholten et al., "A Probabilistic Perspective on Unlearning and Alignment for LLMs",
ICLR 2025, arXiv 2410.03523; Maurer and Pontil, arXiv 0907.3740; Hoeffding, "On the distribution of
the number of successes in independent trials", 1956; Bretagnolle, "Statistique de
Kolmogorov-Smirnov pour un échantillon nonéquiréparti", 1980 (in Shorack and Wellner, chapter 25).
"""

import math

import numpy as np


def share_upper(hits: int, n: int, confidence: float) -> float:
    """Returns an upper confidence bound on the probability that a sample has a property.

    Args:
        hits: number of samples with the property.
        n: number of samples, at least 1.
        confidence: probability with which the bound holds, in (0, 1).
    """
    # This import is delayed until the first use, because it takes half a second.
    from scipy.special import betaincinv

    assert 0 <= hits <= n and n > 0 and 0 < confidence < 1
    if hits == n:
        return 1.0
    return max(float(betaincinv(hits + 1, n - hits, confidence)), (hits + 1) / n)


def mean_upper(samples: np.ndarray, confidence: float) -> float:
    """Returns an upper confidence bound on the expected value of samples in [0, 1].

    Args:
        samples: float [n] in [0, 1], n at least 1.
        confidence: probability with which the bound holds, at least 0.5 and below 1.
    """
    error = (1 - confidence) / 2
    return min(mean_upper_dkw(samples, error), mean_upper_bernstein(samples, error))


def deviation_upper(samples: np.ndarray, confidence: float) -> float:
    """Returns an upper confidence bound on the standard deviation of samples in [0, 1].

    Args:
        samples: float [n] in [0, 1], n at least 1.
        confidence: probability with which the bound holds, at least 0.5 and below 1.
    """
    error = (1 - confidence) / 2
    return min(deviation_upper_dkw(samples, error), deviation_upper_sample(samples, error))


def mean_upper_dkw(samples: np.ndarray, error: float) -> float:
    """Returns an upper bound on the mean from a band around the empirical distribution function.

    The bound fails with a probability of at most `error`.
    """
    points, levels = _steps(samples)
    margin = _margin(len(samples), error)
    return float(1 - np.diff(points) @ np.maximum(levels - margin, 0))


def mean_upper_bernstein(samples: np.ndarray, error: float) -> float:
    """Returns an upper bound on the mean, at most 1, from the sample variance.

    The bound fails with a probability of at most `error`.
    """
    n = len(samples)
    if n < 2:
        return 1.0
    log = math.log(2 / error)
    slack = math.sqrt(2 * np.var(samples, ddof=1) * log / n) + 7 * log / (3 * (n - 1))
    return min(float(np.mean(samples) + slack), 1.0)


def deviation_upper_sample(samples: np.ndarray, error: float) -> float:
    """Returns an upper bound on the standard deviation from that of the samples.

    The bound fails with a probability of at most `error`. The result is at most 1/2, the largest
    standard deviation of a variable in [0, 1].
    """
    n = len(samples)
    if n < 2:
        return 0.5
    slack = math.sqrt(2 * math.log(1 / error) / (n - 1))
    return min(float(np.std(samples, ddof=1) + slack), 0.5)


def deviation_upper_dkw(samples: np.ndarray, error: float) -> float:
    """Returns an upper bound on the standard deviation from a band around the distribution.

    The bound fails with a probability of at most `error`.
    """
    points, levels = _steps(samples)
    margin = _margin(len(samples), error)
    # E (X - c)^2 = c^2 + integral of 2 (x - c) (1 - F(x)). Between two points, the integral is
    # (1 - F) ((b - c)^2 - (a - c)^2), split at c.
    c = np.linspace(0, 1, 129)[:, None]  # a finer grid would lower the variance by less than 4e-5
    below = np.diff((np.minimum(points, c) - c) ** 2, axis=1)
    above = np.diff((np.maximum(points, c) - c) ** 2, axis=1)
    tail_below = 1 - np.minimum(levels + margin, 1)
    tail_above = 1 - np.maximum(levels - margin, 0)
    squares = c[:, 0] ** 2 + below @ tail_below + above @ tail_above
    return min(math.sqrt(squares.min()), 0.5)


def _steps(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points x_0 = 0 ... x_k = 1 and the empirical distribution between them."""
    values, counts = np.unique(samples, return_counts=True)
    assert values[0] >= 0 and values[-1] <= 1, "the samples are not all in [0, 1]"
    levels = np.concatenate([[0], np.cumsum(counts) / len(samples)])
    return np.concatenate([[0], values, [1]]), levels


def _margin(n: int, error: float) -> float:
    assert 0 < error <= 0.5, error
    return math.sqrt(math.log(2 * math.e / error) / (2 * n))
