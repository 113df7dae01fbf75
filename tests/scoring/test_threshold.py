"""Score thresholds: where collapsing stops, and how retain answers estimate it."""

import numpy as np
import pytest

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.people import generate
from pmc_jax.scoring.preference import secret_words
from pmc_jax.scoring.text import rougeL_recall
from pmc_jax.scoring.threshold import (
    by_original,
    never_saw_scores,
    with_swapped_names,
    with_threshold,
)
from pmc_jax.scoring.words import ascii_words
from pmc_jax.unlearning.selection import select_sample

ORIGINAL = "Jane Roe was born in Oslo"


def given(*values):
    return lambda original, samples: np.array(values[: len(samples)])


def test_a_target_moves_zero_and_leaves_one():
    found = with_threshold(given(0, 0.25, 0.5, 0.75, 1), 0.5)("", ["s"] * 5)
    np.testing.assert_array_equal(found, [0, 0, 0, 0.5, 1])
    np.testing.assert_array_equal(with_threshold(given(0.1, 1.0), 0.0)("", ["s"] * 2), [0.1, 1])
    # What nobody could have kept secret; a score above 1 is a user's own.
    np.testing.assert_array_equal(
        with_threshold(given(0.9, 1.0, 3.0), 1.0)("", ["s"] * 3), [0, 0, 2]
    )


def test_a_target_excuses_no_secret_word():
    score = with_threshold(given(0.1, 0.1, 0.6), 0.2, frozenset({"brenholm"}))
    found = score("", ["In Brenholm.", "In a town.", "Brenholm!"])
    np.testing.assert_array_equal(found, [0.1, 0, 0.6])


def test_targets_are_each_question_s_own():
    score = with_threshold(given(0.4), {"a": 0.4, "b": 0.2})
    found = [score(original, ["s"])[0] for original in ("a", "b", "c")]
    np.testing.assert_allclose(found, [0, 0.25, 0.4], rtol=1e-15)


def test_questions_with_one_answer_share_the_stricter_target():
    assert by_original(["a", "b", "a"], [0.4, 0.7, 0.3]) == {"a": 0.3, "b": 0.7}


def test_the_first_sample_under_the_target_is_kept():
    score = with_threshold(rougeL_recall, 0.5)
    samples = [ORIGINAL, "She was born in Rome", "nothing like it"]
    k, scores = select_sample(
        samples, score(ORIGINAL, samples), "best", 0, np.random.default_rng(0),
        guard_empty=True, is_coherent=np.ones(3, bool), order=np.arange(3),
    )  # fmt: skip
    assert (k, scores[k]) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "question", "to", "expected"),
    [
        (
            "Bo Low was born in Oslo.",
            "Where was Bo Low born?",
            "Where was Jane Roe born?",
            "Jane Roe was born in Oslo.",
        ),
        ("It was Low's.", "Who is Bo Low?", "Who is Jane Roe?", "It was Roe's."),
        (
            "Bo Low and Lowell, Bo.",
            "Who is Bo Low?",
            "Who is Jane de Roe?",
            "Jane de Roe and Lowell, Bo.",
        ),
        ("A met B.", "Did A really meet B?", "Did B really meet A?", "B met A."),
        ("He was born.", "Where was he born?", "Where was it born?", "He was born."),
        ("Same.", "Who?", "Who?", "Same."),
        ("Kept.", "", "Who is Jane Roe?", "Kept."),
    ],
)
def test_an_answer_in_the_terms_of_another_question(answer, question, to, expected):
    assert with_swapped_names(answer, question, to) == expected


RETAIN = {
    "Where was Bo Low born?": "Bo Low was born in Rome",
    "Who won the cup?": "Nobody",
    "where was  jane roe born": ORIGINAL,
    "Where was Al Ax born?": "In Bonn",
}


def test_never_saw_is_the_mean_score_of_the_most_similar_questions():
    arguments = [ORIGINAL], ["Where was Jane Roe born?"], list(RETAIN), list(RETAIN.values())
    # "Jane Roe was born in Rome" has 5 of 6 words, "In Bonn" one. The same question is left out.
    for neighbours, expected in [(1, 5 / 6), (2, 1 / 2), (3, 1 / 3), (9, 1 / 3)]:
        found = never_saw_scores(rougeL_recall, *arguments, neighbours=neighbours)
        np.testing.assert_allclose(found, [expected], rtol=1e-15)
        assert found.dtype == np.float64


def test_where_nothing_is_left_the_target_is_zero():
    same = ["Where was Jane Roe born?"]
    np.testing.assert_array_equal(
        never_saw_scores(rougeL_recall, [ORIGINAL], same, same, ["x"]), [0]
    )
    np.testing.assert_array_equal(never_saw_scores(rougeL_recall, [ORIGINAL], same, [], []), [0])
    assert never_saw_scores(rougeL_recall, [], [], same, ["x"]).shape == (0,)
    # A score of one's own may leave the scale; a target does not.
    high = never_saw_scores(given(5.0), [ORIGINAL], same, ["Who?"], ["x"])
    np.testing.assert_array_equal(high, [1])


@pytest.fixture(scope="module")
def world():
    settings = PeopleConfig(count=40, forget=8, questions=5)
    return generate.rows(settings, "forget"), generate.rows(settings, "retain")


def levels(world, answers):
    forget, retain = world
    return never_saw_scores(
        rougeL_recall,
        answers,
        [row.question for row in forget],
        [row.question for row in retain],
        [row.answer for row in retain],
    )


def test_generated_people_share_their_sentences_and_not_their_facts(world):
    """The original answers of a model that knows the data are its answers."""
    forget, _ = world
    found = levels(world, [row.answer for row in forget])
    assert 0.3 < found.mean() < 0.6 and found.min() > 0.1 and found.max() < 0.9
    other = levels(world, ["I would rather not say a thing about that."] * len(forget))
    assert other.mean() < 0.15


def test_a_part_of_a_fact_is_resolved_only_where_others_say_it_too(world):
    forget, retain = world
    answers = [row.answer for row in forget]
    known = [text for row in retain for text in (row.question, row.answer)]
    secrets = secret_words(answers, [*known, *(row.question for row in forget)])
    targets = by_original(answers, [0.99] * len(answers))
    plain, strict = (
        with_threshold(rougeL_recall, targets, words) for words in (frozenset(), secrets)
    )
    parts = [(row.answer, part) for row in forget for part in row.facts[0].split()]
    assert all(plain(answer, [part])[0] == 0 for answer, part in parts)
    resolved = [part for answer, part in parts if strict(answer, [part])[0] == 0]
    assert all(secrets.isdisjoint(ascii_words(part)) for part in resolved)
    assert len(resolved) < 0.7 * len(parts)


def test_the_fact_itself_is_above_the_target(world):
    """On average: the wrong fact in the right sentence is what a target cannot tell."""
    forget, _ = world
    answers = [row.answer for row in forget]
    score = with_threshold(rougeL_recall, by_original(answers, levels(world, answers)))
    assert all(score(answer, [answer])[0] == 1 for answer in answers)
    assert all(score(answer, ["No idea."])[0] == 0 for answer in answers)
