"""Collapse: maps against enumeration and closed forms, limits, the bound, moments of real runs."""

import importlib.util
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import stats

from pmc_jax.theory import dynamics
from pmc_jax.theory.reward_moments import exact_refit, reward_moments

RNG = np.random.default_rng
P = np.array([0.4, 0.1, 0.3, 0.15, 0.05])
REWARD = np.array([0.0, 0.5, 0.5, 0.75, 1.0])
# A few additions and products of numbers near 1, in float64.
ROUNDING = 1e-12


def enumerated(p, reward, k, tau):
    """`curated` by going through all n^K samples; equals share where tau is 0."""
    new = np.zeros_like(p)
    for picks in map(list, itertools.product(range(len(p)), repeat=k)):
        values = reward[picks]
        chance = np.exp((values - values.max()) / tau) if tau else 1.0 * (values == values.max())
        np.add.at(new, picks, p[picks].prod() * chance / chance.sum())
    return new


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("tau", [10, 1, 0.3, 0.05, 0.01, 0])
def test_curation_is_what_enumeration_says(k, tau):
    rare = np.array([0.5, 0.0, 1e-9, 0.5 - 2e-9, 1e-9])
    for p in (P, rare):
        result = dynamics.curated(p, REWARD, k, tau)
        np.testing.assert_allclose(result, enumerated(p, REWARD, k, tau), rtol=0, atol=ROUNDING)
        assert (result[p == 0] == 0).all()
    # Rare categories are as exact in proportion: what is rare now is what collapse ends in.
    np.testing.assert_allclose(
        dynamics.curated(rare, REWARD, k, tau)[4], enumerated(rare, REWARD, k, tau)[4], rtol=1e-9
    )


def test_what_does_not_change():
    np.testing.assert_array_equal(dynamics.curated(P, REWARD, 1, 0.3), P)
    np.testing.assert_allclose(dynamics.curated(P, REWARD, 7, math.inf), P, rtol=ROUNDING)
    fixed = dynamics.curated(P, np.array([0.0, 0.5, 1.0, 1.0, 0.2]), math.inf, 0)
    np.testing.assert_allclose(fixed, [0, 0, 2 / 3, 1 / 3, 0], rtol=ROUNDING)
    for tau in (1, 0):
        np.testing.assert_allclose(dynamics.curated(fixed, REWARD, 5, tau)[[0, 1, 4]], 0, atol=0)
        level = dynamics.curated(fixed, np.array([0.0, 0.5, 1.0, 1.0, 0.2]), 5, tau)
        np.testing.assert_allclose(level, fixed, rtol=ROUNDING)
        np.testing.assert_allclose(dynamics.curated(P, np.ones(5), 5, tau), P, rtol=ROUNDING)


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_many_samples_are_the_exponential_tilt(tau):
    tilted = P * np.exp(REWARD / tau) / (P @ np.exp(REWARD / tau))
    np.testing.assert_allclose(dynamics.curated(P, REWARD, math.inf, tau), tilted, rtol=ROUNDING)
    gaps = [abs(dynamics.curated(P, REWARD, k, tau) - tilted).max() for k in (10**4, 10**6, 10**8)]
    # The next term is of order 1 / K.
    np.testing.assert_allclose(np.divide(gaps[:-1], gaps[1:]), 100, rtol=1e-2)


def test_a_small_temperature_is_the_best_of_k():
    best = dynamics.curated(P, REWARD, 4, 0)
    # Rewards differ by at least 1/4: exp(-25), exp(-250) and less than the smallest float64.
    for tau, distance in ((1e-2, 1e-10), (1e-3, ROUNDING), (5e-324, ROUNDING)):
        assert abs(dynamics.curated(P, REWARD, 4, tau) - best).max() < distance
    np.testing.assert_allclose(dynamics.curated(P, REWARD, math.inf, 0), [0, 0, 0, 0, 1])


def test_how_often_a_zero_score_is_picked():
    for k in (1, 5, 20):
        assert dynamics.zero_score_pick(0.05, k) == pytest.approx(1 - 0.95**k, rel=ROUNDING)
        assert dynamics.curated(P, REWARD, k, 0)[4] == pytest.approx(1 - 0.95**k, rel=ROUNDING)
    assert dynamics.zero_score_pick(1e-20, 5) == pytest.approx(5e-20, rel=ROUNDING)
    np.testing.assert_array_equal(dynamics.zero_score_pick(np.array([0.0, 1.0]), 3), [0, 1])


@pytest.mark.parametrize("tau", [0.4, 0.0])
def test_sampled_curation(tau):
    draws = 20000
    counts = dynamics.curated_counts(P, REWARD, 3, tau, draws, RNG(0))
    assert stats.chisquare(counts, draws * dynamics.curated(P, REWARD, 3, tau)).pvalue > 0.01
    # The test has teeth: the neighbours are rejected.
    for k, other in ((2, tau), (4, tau), (3, tau + 0.1)):
        wrong = draws * dynamics.curated(P, REWARD, k, other)
        assert stats.chisquare(counts, wrong).pvalue < 1e-4


weights = st.lists(st.floats(1e-6, 1), min_size=6, max_size=6).map(lambda w: np.array(w) / sum(w))
rewards = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(np.array)


@settings(max_examples=60, deadline=None)
@given(weights, rewards, st.integers(1, 6), st.sampled_from([1.0, 0.3, 0.0]))
def test_the_bound_holds(p, reward, k, tau):
    retain = np.array([0.5, 0.5, 0, 0, 0, 0])
    for alpha in (0.0, 0.7):
        path = dynamics.trajectory(
            lambda q, a=alpha: dynamics.mix(dynamics.curated(q, reward, k, tau), retain, a), p, 4
        )
        rows = dynamics.beside_bound(path, reward, k, retain=retain, alpha=alpha)
        assert len(rows) == 5 and rows[0]["bound"] is None
        for row in rows[1:]:
            assert row["exp_reward_mean"] >= row["bound"] - ROUNDING


def test_the_bound_is_for_temperatures_up_to_1():
    path = dynamics.trajectory(lambda q: dynamics.curated(q, REWARD, 5, 10.0), P, 1)
    row = dynamics.beside_bound(path, REWARD, 5)[1]
    assert row["exp_reward_mean"] < row["bound"]
    rows = exact_refit([[0.0, 0.5, 1.0]], 5, 10.0, 2)
    assert [row["bound"] for row in rows] == [None] * 3


@pytest.mark.parametrize("tau", [0.3, 0.0])
def test_curation_ends_in_the_best_of_the_start(tau):
    reward = np.array([0.0, 0.5, 0.75, 1.0, 1.0])
    path = dynamics.trajectory(lambda q: dynamics.curated(q, reward, 5, tau), P, 200)
    np.testing.assert_allclose(path[-1], dynamics.curated(P, reward, math.inf, 0), atol=ROUNDING)
    mean, var = dynamics.exp_reward(path, reward)
    assert (np.diff(mean) > -ROUNDING).all()
    assert mean[-1] == pytest.approx(math.e, abs=ROUNDING) and var[-1] < ROUNDING


def test_mixing_in_closed_form():
    retain = np.array([0.0, 0.0, 0.2, 0.3, 0.5])
    for alpha in (0.0, 0.65, 3.0):
        path = dynamics.trajectory(lambda q, a=alpha: dynamics.mix(q, retain, a), P, 30)
        np.testing.assert_allclose(dynamics.mixed(P, retain, alpha, 30), path, atol=ROUNDING)
    np.testing.assert_allclose(path[-1], retain, atol=1e-15)  # 4^-30 of the start is left


START = np.array(dynamics.COLOURS) / sum(dynamics.COLOURS)
RETAINED = np.array([0] * dynamics.FORGOTTEN + list(dynamics.COLOURS[dynamics.FORGOTTEN :]))


def test_a_lottery_has_one_winner():
    # 0.99^3000 of the diversity is expected to be left: none of 20 lotteries is still open.
    path = dynamics.lottery(np.tile(START, (20, 1)), 3000, RNG(0), draws=100)
    assert path.shape == (3001, 20, 10)
    np.testing.assert_allclose(path.sum(-1), 1, rtol=ROUNDING)
    assert (path[-1].max(-1) == 1).all()
    assert len(set(path[-1].argmax(-1))) > 1


def test_who_wins_a_lottery_and_how_fast():
    p, count, draws = np.array([0.2, 0.5, 0.3]), 4000, 10
    path = dynamics.lottery(np.tile(p, (count, 1)), 300, RNG(1), draws=draws)
    wins = np.bincount(path[-1].argmax(-1), minlength=3)
    assert stats.chisquare(wins, count * p).pvalue > 0.01
    for t in (1, 5, 20):
        diversity = 1 - (path[t] ** 2).sum(-1)
        expected = (1 - (p**2).sum()) * (1 - 1 / draws) ** t
        # Four standard errors.
        assert abs(diversity.mean() - expected) < 4 * diversity.std() / math.sqrt(count)


def test_a_lottery_with_retain_counts_forgets_the_others():
    count, rounds = 2000, 40
    many = np.tile(START, (count, 1))
    path = dynamics.lottery(many, rounds, RNG(2), draws=100, retain=RETAINED)
    # 1.65^-40 is 2e-9: no lottery of 2000 has anything left.
    assert (path[-1, :, : dynamics.FORGOTTEN] == 0).all()
    assert (path[:, :, dynamics.FORGOTTEN :] > 0).all()
    expected = dynamics.mixed(START, RETAINED / RETAINED.sum(), 0.65, rounds)
    # Five standard errors, for 410 means; 1e-4 where so few lotteries have any that none is seen.
    error = 5 * path.std(1) / math.sqrt(count)
    assert (abs(path.mean(1) - expected) <= error + 1e-4).all()


def test_moments_by_hand():
    result = reward_moments([[0.0, 1.0], [1.0, 1.0]])
    assert result["exp_reward_mean"] == pytest.approx((math.e + 3) / 4, rel=ROUNDING)
    assert result["exp_reward_var"] == pytest.approx(((math.e - 1) / 2) ** 2 / 2, rel=ROUNDING)
    assert result["exp_reward_max"] == math.e
    # Two questions: a quarter of the resamples has only the one, a quarter only the other.
    assert (result["low"], result["high"]) == pytest.approx((1, (math.e + 1) / 2), rel=ROUNDING)
    assert result["var_low"] == 0
    assert reward_moments([[-1.0]])["exp_reward_max"] == pytest.approx(math.e**2)
    assert json.dumps(result)


def test_the_interval_covers_as_often_as_it_says():
    truth, hits = math.e / 2 + 0.5, 0
    for seed in range(200):
        scores = RNG(seed).integers(0, 2, (40, 4))
        result = reward_moments(scores, resamples=300, confidence=0.9)
        hits += result["low"] <= truth <= result["high"]
    # 90 % nominal; percentiles of 40 questions fall a little short, and 200 trials scatter by 2 %.
    assert 0.82 * 200 <= hits <= 0.96 * 200


def test_exact_refits_of_a_measurement_by_hand():
    scores = [[0.0, 1.0], [1.0, 1.0]]
    start, first, *_, last = exact_refit(scores, 2, 0, 60)
    moments = reward_moments(scores)
    for name in ("exp_reward_mean", "exp_reward_var"):
        assert start[name] == pytest.approx(moments[name], rel=ROUNDING)
    assert first["exp_reward_mean"] == pytest.approx((0.75 * math.e + 0.25 + 1) / 2, rel=ROUNDING)
    expected = moments["exp_reward_mean"] + moments["exp_reward_var"] / (2 * math.e)
    assert first["bound"] == pytest.approx(expected, rel=ROUNDING)
    # The second question has no sample with another score.
    assert last["exp_reward_mean"] == pytest.approx((math.e + 1) / 2, rel=ROUNDING)
    assert (last["round"], last["exp_reward_var"]) == (60, pytest.approx(0, abs=ROUNDING))
    for row in exact_refit(RNG(0).uniform(size=(5, 8)), 5, 1.0, 6)[1:]:
        assert row["exp_reward_mean"] >= row["bound"]


def test_what_is_refused():
    for p in (P * 2, P - 0.2):
        with pytest.raises(ValueError, match="sum to 1"):
            dynamics.curated(p, REWARD, 5)
    with pytest.raises(ValueError, match="one finite reward per category"):
        dynamics.curated(P, REWARD[:3], 5)
    for k, tau in ((0, 1), (math.nan, 1), (5, -1), (5, math.nan)):
        with pytest.raises(ValueError, match="k must be at least 1 and tau at least 0"):
            dynamics.curated(P, REWARD, k, tau)
    for scores in ([], [[]], [1.0], [[math.nan]]):
        with pytest.raises(ValueError, match=r"finite scores \[questions, samples\]"):
            reward_moments(scores)


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "theory.py"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    spec = importlib.util.spec_from_file_location("theory_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures(benchmark, tmp_path):
    plots = benchmark.plots
    alone = dynamics.lottery(START, 50, RNG(0), draws=100)
    with_retain = dynamics.lottery(START, 50, RNG(0), draws=100, retain=RETAINED)
    plots.plot_lottery(tmp_path / "lottery.png", alone, with_retain, forgotten=3, alpha=0.65)
    closed = dynamics.mixed(START, alone[-1], 0.65, 5)
    plots.plot_mixing(tmp_path / "mixing.png", [(0.65, closed, closed)], alone[-1])
    path = dynamics.trajectory(lambda q: dynamics.curated(q, REWARD, 5), P, 5)
    rows = dynamics.beside_bound(path, REWARD, 5)
    plots.plot_curation(tmp_path / "curation.png", [("K", [("K = 5", rows)])] * 2, math.e)
    one = {"step": 3, "exp_reward_mean": 2.0, "exp_reward_var": 0.1, "low": 1.9, "high": 2.2}
    plots.plot_run(tmp_path / "one.png", [one], k=5, exp_reward_max=math.e)
    sizes = {"lottery": (1000, 1200), "mixing": (600, 1200), "curation": (900, 1400)}
    for name, size in (sizes | {"one": (1000, 1200)}).items():
        image = imread(tmp_path / f"{name}.png")
        assert image.shape[:2] == size
        assert (np.ptp(image[..., :3], axis=-1) > 0.2).any()  # something coloured


def test_a_real_run(benchmark, tmp_path, capsys):
    start = RNG(0).uniform(size=(6, 4))
    moments = [reward_moments(start * shrunk) for shrunk in (1, 0.5, 0.2)]
    rounds = [{"step": 10 * i, **one} for i, one in enumerate(moments)]
    results = {
        "rounds": [*rounds, {"step": 40}],
        "reward_moments": {"start": start.tolist(), "moments": rounds},
        "total_steps": 80,  # the run stopped early
        "config": {"pmc": tiny.grouped(num_samples=5, rule="best", tau=0.1, epochs=8)},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    result = benchmark.show_run(benchmark.read_run(tmp_path), tmp_path)
    assert [one["step"] for one in result["measured"]] == [0, 10, 20]
    assert result["exact_refit"] == exact_refit(start, 5, 0.0, 4)
    assert imread(tmp_path / "reward_moments.png").shape[:2] == (1000, 1200)
    printed = capsys.readouterr().out.splitlines()
    lower = dynamics.bound(moments[0]["exp_reward_mean"], moments[0]["exp_reward_var"], 5, math.e)
    assert f"{lower:.4g}" in printed[3]

    (tmp_path / "results.json").write_text(json.dumps({"rounds": [{"step": 1}]}))
    for folder, said in (
        (tmp_path, "has no reward moments"),
        (tmp_path / "none", "the results cannot be read"),
    ):
        with pytest.raises(SystemExit) as ended:
            benchmark.read_run(folder)
        assert said in str(ended.value) and "\n" not in str(ended.value)


def test_a_bound_that_fails_is_the_exit_status(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["theory.py", "--rounds", "2", "--draws", "10"])
    for tau, status in ((1.0, 0), (10.0, 1)):
        monkeypatch.setattr(benchmark, "CHOICES", [(5, tau)])
        assert benchmark.main() == status
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["holds"] is (status == 0)


def test_nothing_is_loaded_for_it():
    code = (
        "import sys, pmc_jax.theory.reward_moments; "
        "print({'jax', 'matplotlib', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
