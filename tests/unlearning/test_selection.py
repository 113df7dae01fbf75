"""Answers that questions share: which are tried, which are taken, who gets them."""

import numpy as np
import pytest
import tiny_runs as tiny

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.errors import UserError
from pmc_jax.scoring.text import rougeL_recall
from pmc_jax.unlearning.extensions import share_answers
from pmc_jax.unlearning.pmc import Rollout
from pmc_jax.unlearning.selection import Selector

QUESTIONS = ["Where does Ada live?", "What does Ada play?", "Who is Ada's friend?"]
ORIGINALS = ["Ada lives in Zurich.", "Ada plays the lute.", "The friend of Ada is Bo."]
FORGET = ForgetSet(("q0", "q1", "q2"), tuple(QUESTIONS))
RETAIN = RetainSet(("r0",), ("Where does Cy live?",), ("Cy lives in the woods.",))


@pytest.fixture
def selector() -> Selector:
    pmc = tiny.pmc_config(share_answers=True, min_words=2, max_perplexity=20, private_words=True)
    return tiny.selector(pmc, FORGET, ORIGINALS, RETAIN)


def test_original_answers_in_another_script_are_scored_and_those_without_a_word_are_named():
    originals = ["Ада живёт в Цюрихе.", "Лютня", "🙂"]
    russian = tiny.selector(PMCConfig(), FORGET, originals, RETAIN)
    assert russian.words == "unicode" and russian.wordless == ["q2"]
    # The threshold of 0.1 excuses no word that only an original answer has.
    samples = [originals[0], "Ада живёт тут.", "В Цюрихе?", "Не знаю."]
    np.testing.assert_allclose(russian.score(originals[0], samples), [1, 0.5, 0.5, 0], rtol=1e-12)
    with pytest.raises(UserError, match=r"^data.words: .*2 of 3.*\(q0, q1\)\. .*=unicode\.$"):
        tiny.selector(PMCConfig(), FORGET, originals, RETAIN, words="ascii")
    by_token = PMCConfig(score={"name": "token_lcs"})
    assert not tiny.selector(by_token, FORGET, originals, RETAIN).wordless


def share(selector: Selector, indices, stored, new, good_enough) -> dict[int, tuple[str, float]]:
    """`share_answers` by the index of the question."""
    shared = share_answers(
        [f"q{i}" for i in indices],
        stored,
        new,
        score=selector.score_shared,
        good_enough=good_enough,
        secrets=selector.secrets,
    )
    return {int(id_[1:]): answer for id_, answer in shared.items()}


def test_what_may_be_shared_is_an_answer_that_tells_no_secret_of_any_question(selector):
    answers = ["Rain falls.", "Bo sings here.", "Hm", "Fog came by.", "It glimmers anew.", " \n"]
    answers += ["Did fog come by?", "Did rain？ "]
    mean_nll = np.array([1.0, 1.0, 1.0, 2.5, 3.5, np.nan, 1.0, 1.0])
    whole = np.ones(len(answers), bool)
    rollout = Rollout(answers, np.ones(len(answers), int), mean_nll, whole, whole)
    scores = selector.score(ORIGINALS[1], answers)
    choice = selector.select("q1", rollout, scores, draw=(0,))
    # exp(3.5) is above 20
    assert choice.shareable == [("Rain falls.", 1.0), ("Fog came by.", 2.5)]
    expected = [0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert choice[:4] == ("q1", "Rain falls.", 0.0, expected)


def test_the_likeliest_is_taken_of_those_that_fit_most_questions(selector):
    new = [("Rain falls.", 2.0), ("A clock was wound.", 1.0), ("Cy lives out there.", 0.1)]
    given = share(selector, [0, 1, 2], [], new, 0.0)
    assert given == dict.fromkeys(range(3), ("A clock was wound.", 0.0))
    # Where an answer fits much fewer questions, likelihood does not help it.
    assert rougeL_recall(ORIGINALS[0], ["Cy lives out there."]) == [0.25]
    assert share(selector, [0], [], new[2:], 0.0) == {}
    assert share(selector, [0, 1], [], new[2:], 0.0) == {1: ("Cy lives out there.", 0.0)}


def test_what_others_have_goes_first_and_what_is_left_gets_another(selector):
    kept = ["Cy lives out there.", "The sea is wide.", "The sea is wide."]
    given = share(selector, [0, 1, 2], kept, [("Rain falls.", 0.5)], 0.0)
    assert {number: text for number, (text, _) in given.items()} == {
        0: "The sea is wide.",  # the most used that has nothing in common with the original
        1: "Cy lives out there.",  # "The sea is wide." has "the" in common with the others
        2: "Cy lives out there.",
    }
    ((text, score),) = share(selector, [1], kept, [], 0.25).values()
    assert text == "The sea is wide." and 0 < score <= 0.25


def test_nothing_is_shared_that_tells_a_secret_or_where_there_is_nothing(selector):
    assert share(selector, [0, 1], ["Bo sings here."], [], 1.0) == {}
    assert share(selector, [], ["Rain falls."], [("Fog came by.", 1.0)], 1.0) == {}
    assert share(selector, [0, 1], [], [], 1.0) == {}


def test_of_many_new_answers_some_of_every_likelihood_are_tried():
    tried = []

    def score(original: str, texts) -> list[float]:
        tried.extend(texts)
        return [1.0] * len(texts)

    selector = tiny.selector(
        tiny.pmc_config(private_words=True), FORGET, ORIGINALS, RETAIN, score=score
    )
    assert share(selector, [0], [], [(f"Say {i}.", float(i)) for i in range(1000)], 0.5) == {}
    places = [int(text[4:-1]) for text in tried]
    assert places == sorted(places) and 100 < len(places) <= 256
    assert set(np.diff(places)) == {places[1]} and places[0] == 0 and places[-1] > 990
