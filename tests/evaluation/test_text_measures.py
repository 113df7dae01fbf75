"""Side effects on, and perplexity of, unrelated text: hand-computed cases."""

import math

import numpy as np
import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import perplexity, side_effects
from pmc_jax.evaluation.result import NO_BEFORE, NO_REFERENCE

SETTINGS = EvaluateConfig()


def chunk(probabilities, forget, words=2):
    return {"logp": [math.log(p) for p in probabilities], "words": words, "forget": forget}


OWN = {"text": {"chunk:0": chunk([0.1, 0.5], [1, 0]), "chunk:1": chunk([0.5, 0.9], [1, 0])}}
OTHER = {"text": {"chunk:0": chunk([0.9, 0.5], [1, 0]), "chunk:1": chunk([0.5, 0.8], [1, 0])}}


def test_side_effects_by_hand():
    result = side_effects.summarise(OWN, OTHER, None, SETTINGS)
    values = result.values
    expected = {  # changes -0.8 and 0 at forget tokens, 0 and 0.1 at others
        "reference.forget.mean": -0.4,
        "reference.forget.deviation": 0.4,
        "reference.forget.low": -0.8 + 0.01 * 0.8,
        "reference.forget.high": -0.01 * 0.8,
        "reference.forget.smallest": -0.8,
        "reference.forget.dropped": 0.5,
        "reference.other.mean": 0.05,
        "reference.other.dropped": 0.0,
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name
    counts = np.array(result.series["reference.forget"])
    assert (len(counts), counts.sum()) == (41, 2)
    assert np.flatnonzero(counts).tolist() == [4, 20]  # -0.8, and 0 in the middle
    assert set(result.values) | set(result.missing) == set(side_effects.DESCRIPTIONS)
    assert set(result.missing.values()) == {NO_BEFORE}


def test_side_effects_against_the_model_before():
    result = side_effects.summarise(OWN, None, OTHER, SETTINGS)
    assert result.values["before.forget.mean"] == pytest.approx(-0.4, abs=1e-12)
    assert set(result.missing.values()) == {NO_REFERENCE}
    same = side_effects.summarise(OWN, OWN, OTHER, SETTINGS)
    assert same.missing == {}
    assert same.values["reference.forget.smallest"] == 0


def test_side_effects_that_cannot_be_told():
    def reasons(own, reference):
        result = side_effects.summarise(own, reference, None, SETTINGS)
        names = [n for n in side_effects.DESCRIPTIONS if n.startswith("reference.")]
        assert not any(n in result.values for n in names)
        return {result.missing[n] for n in names}

    assert reasons({}, OTHER) == {
        "the text is too short to score; set evaluate.corpus.path to a longer text"
    }
    assert reasons(OWN, {}) == {"the other model tokenises the text differently"}
    shorter = {"text": {"chunk:0": chunk([0.5], [1]), "chunk:1": chunk([0.5], [1])}}
    assert reasons(OWN, shorter) == {"the other model tokenises the text differently"}
    nan = {"text": {k: c | {"logp": [math.nan] * 2} for k, c in OWN["text"].items()}}
    assert reasons(nan, OTHER) == {
        "the model's numbers are not finite; check whether its training diverged"
    }
    plain = {"text": {"chunk:0": chunk([0.5, 0.5], [0, 0])}}
    result = side_effects.summarise(plain, plain, None, SETTINGS)
    assert result.missing["reference.forget.mean"] == "the text has no words of forget answers"
    assert result.values["reference.other.mean"] == 0


def test_perplexity_by_hand():
    rows = {"chunk:0": chunk([0.5, 0.25], [0, 0], 2), "chunk:1": chunk([0.5], [0], 1)}
    rows["chunk:2"] = chunk([0.25, 0.25], [0, 0], 1)  # 8 bits, 5 tokens, 4 words
    result = perplexity.summarise({"text": rows}, None, None, SETTINGS)
    expected = {"token": 2 ** (8 / 5), "word": 4.0, "bits_a_word": 2.0}
    assert result.values == pytest.approx(expected, rel=1e-14)
    assert set(expected) == set(perplexity.DESCRIPTIONS)


def test_perplexity_that_cannot_be_told():
    empty = perplexity.summarise({}, None, None, SETTINGS)
    assert empty.missing == dict.fromkeys(
        perplexity.DESCRIPTIONS,
        "the text is too short to score; set evaluate.corpus.path to a longer text",
    )
    huge = {"text": {"chunk:0": {"logp": [-2000.0], "words": 1, "forget": [0]}}}
    result = perplexity.summarise(huge, None, None, SETTINGS)
    assert set(result.missing) == {"token", "word"}
    assert result.values["bits_a_word"] == pytest.approx(2000 / math.log(2), rel=1e-14)
