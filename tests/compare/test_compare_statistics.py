"""What a comparison makes of the numbers of several seeds."""

import pytest

from pmc_jax.compare.statistics import front, spread, spreads
from pmc_jax.evaluation.quality import criterion


def test_deviation_is_that_of_a_sample():
    assert spread([1.0, 3.0, None]) == {"mean": 2.0, "std": pytest.approx(2**0.5), "n": 2}
    assert spread([5.0]) == {"mean": 5.0, "std": None, "n": 1}
    assert spread([None]) is None and spreads([{"a": None}, {}]) == {}


def test_front_holds_what_nothing_beats():
    points = {"a": (1, 9), "b": (5, 5), "c": (4, 5), "d": (9, 1), "e": (5, 5), "f": (0, 8)}
    assert front(points) == ["a", "b", "e", "d"]
    assert front({}) == []


def test_what_a_setting_is_chosen_by():
    assert criterion("mean", 40, 80) == 60
    assert criterion("min", 40, 80) == 40
    assert criterion("harmonic_mean", 40, 80) == pytest.approx(160 / 3)
    assert criterion("harmonic_mean", 0, 0) == 0
