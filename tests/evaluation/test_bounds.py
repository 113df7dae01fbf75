"""Confidence bounds: hand-computed cases, monotonicity, and coverage in simulations."""

import math

import numpy as np
import pytest

from pmc_jax.evaluation import bounds


def test_share_by_hand():
    # No hit of n: (1 - p)^n = e.
    assert bounds.share_upper(0, 10, 0.99) == pytest.approx(1 - 0.01**0.1, rel=1e-12)
    # One hit of two: P(at most one) = 1 - p^2 = e.
    assert bounds.share_upper(1, 2, 0.5) == 1.0  # (1 + 1) / 2, above sqrt(0.5)
    p = bounds.share_upper(3, 20, 0.95)
    below = sum(math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(4))
    assert below == pytest.approx(0.05, rel=1e-10)
    assert bounds.share_upper(5, 5, 0.9) == 1.0


def test_mean_by_hand():
    samples, error = np.array([0.0, 0.5, 0.5, 1.0]), 0.5
    margin = math.sqrt((1 + math.log(4)) / 8)  # 0.546: F_n is 1/4, then 3/4
    expected = 1 - 0.5 * (0.75 - margin)
    assert bounds.mean_upper_dkw(samples, error) == pytest.approx(expected, rel=1e-12)

    half = np.repeat([0.0, 1.0], 500)  # V = 1000 / 999 / 4
    log = math.log(2 / 0.01)
    expected = 0.5 + math.sqrt(2 * 1000 / 999 / 4 * log / 1000) + 7 * log / (3 * 999)
    assert bounds.mean_upper_bernstein(half, 0.01) == pytest.approx(expected, rel=1e-12)
    assert bounds.mean_upper(np.array([0.2]), 0.9) <= 1.0


def test_deviation_by_hand():
    half = np.repeat([0.0, 1.0], 500)
    # At most 1/2 in [0, 1], whatever the samples.
    assert bounds.deviation_upper_sample(half, 0.01) == 0.5
    zeros = np.zeros(1000)
    expected = math.sqrt(2 * math.log(100) / 999)
    assert bounds.deviation_upper_sample(zeros, 0.01) == pytest.approx(expected, rel=1e-12)
    # F between 1 - m and 1: E (X - c)^2 <= c^2 + m (1 - c)^2, smallest m / (1 + m).
    margin = math.sqrt(math.log(2 * math.e / 0.01) / 2000)
    dkw = bounds.deviation_upper_dkw(zeros, 0.01)
    assert dkw**2 == pytest.approx(margin / (1 + margin), abs=1e-4)
    assert dkw**2 >= margin / (1 + margin)
    assert dkw >= math.sqrt(margin * (1 - margin))  # what is possible: a share m at 1


BOUNDS = {
    "mean": bounds.mean_upper,
    "deviation": bounds.deviation_upper,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_fall_with_samples_and_rise_with_confidence(name):
    samples, bound = np.random.default_rng(0).beta(1, 4, 100), BOUNDS[name]
    by_size = [bound(np.tile(samples, k), 0.99) for k in (1, 4, 16, 64)]
    assert by_size == sorted(by_size, reverse=True)
    assert len(set(by_size)) == 4
    by_confidence = [bound(samples, c) for c in (0.5, 0.9, 0.99, 0.999)]
    assert by_confidence == sorted(by_confidence)
    assert bounds.mean_upper(np.minimum(samples + 0.1, 1), 0.9) > bounds.mean_upper(samples, 0.9)


def test_share_rises_with_hits_and_falls_with_samples():
    by_hits = [bounds.share_upper(k, 50, 0.95) for k in range(51)]
    assert by_hits == sorted(by_hits)
    assert all(upper >= (k + 1) / 50 or k == 50 for k, upper in enumerate(by_hits))
    by_size = [bounds.share_upper(n // 10, n, 0.95) for n in (10, 100, 1000, 10000)]
    assert by_size == sorted(by_size, reverse=True)


def bernoulli(p):
    return lambda draw, size: (draw.random(size) < p).astype(float), p, math.sqrt(p * (1 - p))


def beta(a, b):
    deviation = math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
    return lambda draw, size: draw.beta(a, b, size), a / (a + b), deviation


def mixture():
    """Uniform in [0, 0.1] or, one in ten, in [0.5, 1]."""

    def draw_from(draw, size):
        rare = draw.random(size) < 0.1
        return np.where(rare, 0.5 + draw.random(size) / 2, draw.random(size) / 10)

    square = 0.9 * 0.01 / 3 + 0.1 * (1 - 0.125) / 1.5
    return draw_from, 0.12, math.sqrt(square - 0.12**2)


def questions():
    """Half the samples always near 0, a quarter in {0, 1} with p = 1/2, a quarter near 1."""

    def draw_from(draw, size):
        samples = draw.random(size) / 10
        quarter = size[1] // 4
        samples[:, :quarter] = draw.random((size[0], quarter)) < 0.5
        samples[:, quarter : 2 * quarter] = 1 - draw.random((size[0], quarter)) / 10
        return samples

    mean = 0.5 * 0.05 + 0.25 * 0.5 + 0.25 * 0.95
    near_one = (1 - 0.9**3) / 0.3
    square = 0.5 * 0.01 / 3 + 0.25 * 0.5 + 0.25 * near_one
    return draw_from, mean, math.sqrt(square - mean**2)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("n", [8, 80, 400])
@pytest.mark.parametrize(
    "distribution",
    [
        bernoulli(0.02),
        bernoulli(0.5),
        beta(0.3, 3.0),
        beta(5.0, 2.0),
        mixture(),
        questions(),
    ],
    ids=["rare", "coin", "skewed", "high", "mixture", "questions"],
)
def test_coverage(distribution, n, confidence):
    """The bounds hold with room: no allowance for the error of 600 repetitions is needed."""
    draw_from, mean, deviation = distribution
    samples = draw_from(np.random.default_rng(1), (600, n))
    assert samples.mean() == pytest.approx(mean, abs=0.02)
    means = [bounds.mean_upper(s, confidence) for s in samples]
    deviations = [bounds.deviation_upper(s, confidence) for s in samples]
    assert np.mean(np.array(means) >= mean) >= confidence
    assert np.mean(np.array(deviations) >= deviation - 1e-12) >= confidence
    if n == 400:  # Hoeffding's two-sided margin at an error of 1 % is 0.08
        assert np.mean(means) < mean + 0.08
        assert np.mean(deviations) < deviation + 0.15


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "shares",
    [
        np.full(40, 0.05),
        np.full(40, 0.9),
        np.repeat([0.0, 1.0], [30, 10]),
        np.repeat([0.001, 0.4], [35, 5]),
        np.linspace(0, 1, 40),
        np.repeat([1.0, 0.49], [39, 1]),  # where Clopper-Pearson alone fails: see below
    ],
    ids=["rare", "often", "sure", "few", "even", "almost"],
)
def test_coverage_of_shares_exactly(shares, confidence):
    """By the distribution of the number of hits, not by simulation."""
    chances = np.array([1.0])
    for share in shares:
        chances = np.convolve(chances, [1 - share, share])
    n, mean = len(shares), shares.mean()
    covers = [bounds.share_upper(k, n, confidence) >= mean - 1e-12 for k in range(n + 1)]
    assert chances[np.array(covers)].sum() >= confidence - 1e-12
    loosest = bounds.share_upper(round(mean * n), n, 0.99)
    assert loosest <= mean + 0.25


def test_clopper_pearson_alone_fails_for_different_probabilities():
    from scipy.special import betaincinv

    # One sample hits with probability 0.49, all others always: n - 1 hits in 51 % of cases.
    n, mean = 40, 1 - 0.51 / 40
    alone = float(betaincinv(n, 1, 0.5))
    assert alone < mean < bounds.share_upper(n - 1, n, 0.5)
