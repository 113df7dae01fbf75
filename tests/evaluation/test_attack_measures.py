"""Leakage under attacks: hand-computed cases, and the bootstrap interval."""

import numpy as np
import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import attacks
from pmc_jax.evaluation.excess_leakage import bootstrap
from pmc_jax.evaluation.result import NO_REFERENCE

SETTINGS = EvaluateConfig(quantisation=("int8", "nf4"))
ABOVE = ("above_reference", "above_reference.low", "above_reference.high")


def recalls(**attacks_):
    return {f"{a}/{i}": {"rougeL": r} for a, side in attacks_.items() for i, r in enumerate(side)}


def test_prompts_by_hand():
    own = {
        "greedy": recalls(forget=[0.5, 0.0], forget_paraphrased=[0.25, 0.25], retain=[1.0]),
        "prompt_attacks": recalls(repeat=[0.5, 0.0], story=[0.25, 0.5]),
    }
    reference = {
        "greedy": recalls(forget=[0.25, 0.25], forget_paraphrased=[0.25, 0.25]),
        "prompt_attacks": recalls(repeat=[0.25, 0.25], story=[0.0, 0.0]),
    }
    result = attacks.summarise_prompts(own, reference, None, SETTINGS)
    expected = {
        "none": (0.25, 0.0),
        "paraphrased": (0.25, 0.0),
        "repeat": (0.25, 0.0),
        "story": (0.375, 0.375),
        "worst": (0.5, 0.25),
    }
    for name, (leakage, above) in expected.items():
        assert result.values[name] == leakage
        assert result.values[f"{name}.above_reference"] == above
    assert result.values["none.above_reference.low"] == -0.25  # both draws the second question
    assert result.values["none.above_reference.high"] == 0.25
    assert result.values["paraphrased.above_reference.low"] == 0.0
    assert result.missing == {}
    assert set(result.values) == {n for a in expected for n in attacks.descriptions_of(a)}
    assert attacks.descriptions_of("worst").items() <= attacks.DESCRIPTIONS.items()


def test_quantised_and_relearned_by_hand():
    own = {
        "greedy": recalls(forget=[0.0, 0.5]),
        "quantised": recalls(int8=[0.0, 0.5], nf4=[1.0, 0.5]),
        "relearned": {"0": {"rougeL": 0.75}, "1": {"rougeL": 0.25}},
    }
    rounded = attacks.summarise_quantised(own, None, None, SETTINGS)
    assert rounded.values == {"none": 0.25, "int8": 0.25, "nf4": 0.75}
    names = [f"{a}.{n}" for a in rounded.values for n in ABOVE]
    assert rounded.missing == dict.fromkeys(names, NO_REFERENCE)
    # The reference has another row of the two.
    reference = {"greedy": {"forget/1": {"rougeL": 0.25}}, "relearned": {"1": {"rougeL": 0.5}}}
    again = attacks.summarise_relearned(own, reference, None, SETTINGS)
    assert again.values == {
        "none": 0.25,
        **{f"none.{n}": 0.25 for n in ABOVE},
        "relearned": 0.5,
        **{f"relearned.{n}": -0.25 for n in ABOVE},
    }
    for result in (rounded, again):
        assert set(result.values) | set(result.missing) <= set(attacks.DESCRIPTIONS)


def test_what_is_missing_is_said():
    own = {"greedy": recalls(forget=[0.5]), "relearned": {"0": {"rougeL": 0.5}}}
    result = attacks.summarise_prompts(own, None, None, SETTINGS)
    assert result.values == {"none": 0.5}
    assert result.missing["paraphrased"] == "data.evaluate.forget_paraphrased is not given"
    assert result.missing["worst"] == "the attack was not made"
    nothing = attacks.summarise_relearned({}, None, None, SETTINGS)
    assert set(nothing.missing.values()) == {"data.evaluate.forget is not given"}
    unattacked = attacks.summarise_relearned(own, {}, None, SETTINGS)
    reason = "the reference model was not attacked"
    assert unattacked.missing["relearned.above_reference"] == reason


def test_bootstrap():
    draw = np.random.default_rng(3)
    differences = draw.normal(0.1, 0.5, 400)
    low, high = bootstrap(differences)
    assert (low, high) == bootstrap(differences)
    # The normal interval, to a tenth of its half width: 2,000 draws give quantiles to 5 %.
    half = 1.96 * differences.std() / 20
    assert low == pytest.approx(differences.mean() - half, abs=half / 10)
    assert high == pytest.approx(differences.mean() + half, abs=half / 10)
    assert bootstrap(np.array([0.5])) == (0.5, 0.5)


def test_the_interval_covers_the_mean():
    """400 repetitions of 60 questions; the share of a 95 % interval has a standard error of 1 %,
    and the percentile interval of so few is a little short."""
    samples = np.random.default_rng(4).beta(1, 3, (400, 60)) - 0.25
    covered = [low <= 0 <= high for low, high in map(bootstrap, samples)]
    assert 0.9 < np.mean(covered) < 0.98
