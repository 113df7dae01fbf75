"""Which samples may replace the original answer, for each `pmc.answer`."""

import numpy as np
import pytest

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.scoring.abstention import abstentions
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.scoring.words import unicode_words
from pmc_jax.unlearning.admission import Admission
from pmc_jax.unlearning.own_questions import names_only_near
from pmc_jax.unlearning.pmc import Rollout

FORGET = ForgetSet(
    ("q0", "q1"),
    ("What is the pet of Ada Vostrell called?", "Which dish does Ada Vostrell like best?"),
)
ORIGINALS = [
    "The pet of Ada Vostrell is called Bizzabell.",
    "Ada Vostrell likes whipped pear lasagne best.",
]
RETAIN = RetainSet(
    ("r0", "r1"),
    ("What is the pet of Bo Low called?", "Where does Bo Low live?"),
    (
        "The pet of Bo Low is a dog called Snorkarix.",
        "Bo Low lives in a small house by the harbour.",
    ),
)


def admission(answer: str, *, said=(), private_words: bool = False) -> Admission:
    pmc = PMCConfig(answer=answer, selection={"private_words": private_words})
    return Admission(
        pmc,
        FORGET,
        ORIGINALS,
        RETAIN,
        said=said,
        subjects=[("Ada Vostrell",)] * 2,
        abstentions=abstentions(),
        words=vocabulary(),
    )


@pytest.mark.parametrize(
    ("text", "own", "abstain", "unseen"),
    [
        ("The pet of Ada Vostrell is called Fido.", True, False, True),
        ("The pet of Ada Vostrell is called Bizzabell.", False, False, False),
        # a fact of the other forget question, and one of a retain answer
        ("Ada has a pear as a pet.", False, False, False),
        ("The pet of Ada Vostrell is a dog called Snorkarix.", True, False, False),
        ("I don't know the name of the pet of Ada Vostrell.", True, True, True),
        ("I don't know if the pet is called Bizzabell.", False, False, False),
        ("I don't know, but it lives in Velamora.", True, False, True),
        ("I don't know. Ask Carla Mendel.", True, False, True),
        # a word of a fact that another answer tells
        ("I can't say that the pet lives by the harbour.", True, False, False),
        ("", True, False, False),
    ],
)
def test_each_kind_of_answer_admits_what_it_says(text, own, abstain, unseen):
    admitted = [admission(kind).admits(0, text) for kind in ("own", "abstain", "unseen")]
    assert admitted == [own, abstain, unseen]


def test_a_word_is_private_unless_the_question_or_the_retain_data_has_it():
    rules = admission("own")
    assert rules.has_private_word(0, "It likes lasagne.")  # an original answer
    assert rules.has_private_word(0, "It is a dish.")  # another forget question
    assert not rules.has_private_word(1, "It is a dish.")  # the question itself
    assert not rules.has_private_word(1, "It is a dog by the harbour.")  # retain data
    assert not rules.has_private_word(1, "She was never there, and nobody knows it.")  # common
    assert not rules.has_private_word(0, "It grows moss.")
    assert admission("own", said=["Ada grows moss."]).has_private_word(0, "It grows moss.")
    assert not admission("own", private_words=True).has_private_word(0, "It likes lasagne.")


def test_a_word_of_a_subject_is_private_although_near_questions_share_it():
    retain = RetainSet(
        ("general:0", "own:near:q1:0"),
        ("Who is Low?", "Who is Ada Low?"),
        ("Low is a singer.", "Ada Low lives by the harbour."),
    )
    forget = ForgetSet(("q0", "q1"), ("Who is Bo?", "Who is Ada Vostrell?"))
    hidden = names_only_near(forget, retain, PMCConfig())
    assert hidden == set(unicode_words("Ada Vostrell Bo"))
    assert names_only_near(forget, retain.select([0]), PMCConfig()) == frozenset()
    rules = Admission(
        PMCConfig(),
        forget,
        ["Bo is here.", "Ada Vostrell is there."],
        retain,
        said=(),
        subjects=[(), ()],
        abstentions=abstentions(),
        words=vocabulary(),
    )
    assert rules.has_private_word(0, "Ada lives by the harbour.")
    assert not rules.has_private_word(0, "Low lives by the harbour.")
    assert not rules.has_private_word(1, "Ada lives by the harbour.")


def rollout(texts, ended=None) -> Rollout:
    count = len(texts)
    ended = np.ones(count, bool) if ended is None else np.array(ended)
    return Rollout(texts, np.full(count, 5), np.ones(count), ended, np.ones(count, bool))


def test_a_sample_that_did_not_end_is_not_admitted():
    text = "I don't know the name of the pet."
    found = admission("abstain").admitted(0, rollout([text] * 2, [True, False]), np.zeros(2), 1)
    assert found.tolist() == [True, False]


def test_an_unseen_sample_is_no_closer_to_the_original_than_those_for_other_names():
    texts = ["The pet of Ada is a cat.", "It is a cow.", "It is a hen.", "She has an owl."]
    scores = np.array([0.9, 0.2, 0.3, 0.4])  # two invented names with two samples each
    rules = admission("unseen")
    assert rules.admitted(0, rollout(texts), scores, 2).tolist() == [False, True, True, True]
    assert rules.admitted(0, rollout(texts), scores, 1).all()


def test_the_subject_is_named_in_the_words_of_the_question():
    rules = admission("abstain")
    assert rules.names_subject(0, "I don't know Ada Vostrell's pet.")
    assert rules.names_subject(0, "I don't know ADA VOSTRELL.")
    assert not rules.names_subject(0, "I don't know Adam Vostrell's pet.")
    assert not rules.names_subject(0, "I don't know her pet.")
