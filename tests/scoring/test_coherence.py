"""Which samples count as answers, and that those which do not never win."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmc_jax.config.data import PeopleConfig
from pmc_jax.config.pmc import SelectionConfig
from pmc_jax.data.people import generate
from pmc_jax.scoring.coherence import coherent, repetition
from pmc_jax.scoring.preference import count_secret_words, preference, secret_words
from pmc_jax.scoring.text import rougeL_recall
from pmc_jax.unlearning.selection import select_sample

ORIGINAL = "Jane Roe was born in the quiet town of Brenholm."
OFF = SelectionConfig(min_words=0, max_repetition=1, max_perplexity=None, extra_lines=True)
GUARD = dataclasses.replace(OFF, min_words=3, max_repetition=0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the the the", 1),
        ("No no", 1),
        (", , , ,", 1),
        ("in town in town in town", 3 / 5),
        ("I am. I am. I am.", 5 / 8),
        ("Bora Bora is an island", 1 / 4),
        ("a b a c", 0),
        ("word", 0),
        (",", 0),
        ("", 0),
    ],
)
def test_repetition(text, expected):
    np.testing.assert_allclose(repetition(text), expected, rtol=1e-12)


def test_answers_of_people_hardly_repeat_themselves():
    answers = [row.answer for row in generate.rows(PeopleConfig(count=40, questions=8), "all")]
    assert max(map(repetition, answers)) < 0.25


@pytest.mark.parametrize(
    "text",
    ["the the the", ",", "- - - - -", "Oslo", "yes yes yes yes", "of the of the of the of the"],
)
def test_fragments_and_loops_are_no_answers(text):
    assert not coherent(ORIGINAL, [text], GUARD)[0]


@pytest.mark.parametrize(
    "text", ["I don't know.", "She lives in Bora Bora.", "No, no, that was somebody else."]
)
def test_short_answers_are(text):
    assert coherent(ORIGINAL, [text], GUARD)[0]


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab ,", max_size=12), st.integers(0, 9), st.floats(0, 1))
def test_the_original_answer_always_passes(text, min_words, max_repetition):
    guard = dataclasses.replace(OFF, min_words=min_words, max_repetition=max_repetition)
    assert coherent(text, [text, text], guard).all()


def test_all_can_be_off():
    assert coherent(ORIGINAL, ["", ",", "the the the", "a\nb"], OFF).all()
    assert coherent(ORIGINAL, [], GUARD).shape == (0,)


def test_a_sample_has_no_more_lines_than_the_original_answer():
    guard = dataclasses.replace(OFF, extra_lines=False)
    samples = ["", "She did.", "\n She did.\n\n", "She did.\nassistant\nHe did.", "a\u2028b"]
    assert list(coherent(ORIGINAL, samples, guard)) == [True, True, True, False, False]
    assert coherent("One.\n\nTwo.\nThree.", samples, guard).all()
    assert list(coherent("", samples, guard)) == [True, True, True, False, False]


def test_gibberish_is_what_the_model_finds_unlikely():
    """Words enough and none twice: only the model's own perplexity tells."""
    guard = SelectionConfig(min_words=3, max_repetition=0.5, max_perplexity=8)
    samples = ["Jane Roe was born in Selmouth.", "qua lorem;; Vex 7 tundra of if", "", ORIGINAL]
    mean_nll = [math.log(7.9), math.log(8.1), math.nan, 0.2]
    found = coherent(ORIGINAL, samples, guard, mean_nll=mean_nll)
    np.testing.assert_array_equal(found, [True, False, False, True])
    only = dataclasses.replace(OFF, max_perplexity=8)
    found = coherent(ORIGINAL, samples, only, mean_nll=[0.1, math.inf, math.nan, 2])
    np.testing.assert_array_equal(found, [True, False, True, True])
    with pytest.raises(AssertionError):
        coherent(ORIGINAL, samples, only)


def chosen(samples, coherent, *, selection="best", guard_empty=False, order=None):
    rng, order = np.random.default_rng(0), np.array(order or range(len(samples)))
    k, scores = select_sample(
        samples, rougeL_recall(ORIGINAL, samples), selection, 1.0, rng,
        guard_empty=guard_empty, is_coherent=np.array(coherent), order=order,
    )  # fmt: skip
    return k, scores[k], scores.tolist()


@pytest.mark.parametrize("selection", ["best", "bradley_terry"])
def test_an_incoherent_sample_never_wins_against_a_coherent_one(selection):
    k, score, scores = chosen(["the the", ORIGINAL], [False, True], selection=selection)
    assert (k, score, scores) == (1, 1, [1, 1])
    k, score, scores = chosen([",", "Jane Roe", "?"], [False, True, False], selection=selection)
    assert k == 1 and scores == [1, 0.2, 1]


def test_where_all_are_incoherent_no_question_is_resolved():
    k, score, _ = chosen([",", "the the"], [False, False])
    assert (k, score) == (0, 1)


def test_an_empty_sample_is_worse_than_an_incoherent_one():
    assert chosen(["", ","], [True, False], guard_empty=True)[:2] == (1, 1)
    assert chosen(["", ","], [True, False])[:2] == (0, 0)


def test_of_equal_scores_the_preferred_is_kept():
    samples = [ORIGINAL, "Nobody", "Fruit salad", "Bread rolls", ""]
    every, order = [True] * len(samples), [4, 2, 3, 1, 0]
    assert chosen(samples, every, order=order, guard_empty=True)[:2] == (2, 0)
    assert chosen(samples, every)[:2] == (1, 0)
    assert chosen(samples, [True, True, False, True, False], order=order)[0] == 3
    # A lower score goes before.
    assert chosen([ORIGINAL, "Jane", "Nobody"], [True] * 3, order=[0, 1, 2])[0] == 2


def test_preferred_is_what_tells_least_then_the_shortest_then_the_likeliest():
    originals = ["Jane Roe lives in Brenholm.", "Sam Poe plays the banjo."]
    known = ["Where does Jane Roe live?", "What does Sam Poe play?", "Ann Lee lives in the sea."]
    secrets = secret_words(originals, known)
    assert secrets == {"brenholm", "banjo"}
    samples = ["Banjos.", "A fish in the sea.", "A cat.", "A dog.", "A bat."]
    length, mean_nll = np.array([1, 6, 3, 3, 3]), np.array([0.1, 0.1, 2.0, 1.0, 1.0])
    np.testing.assert_array_equal(
        preference(count_secret_words(samples, secrets), length, mean_nll), [3, 4, 2, 1, 0]
    )
    # nan, of no token, comes after what has the same length.
    mean_nll = np.array([math.nan, 1.0])
    zero = np.zeros(2)
    np.testing.assert_array_equal(preference(zero, zero, mean_nll), [1, 0])
    assert not secret_words(originals, [*known, *originals]) and not secret_words([""], known)
