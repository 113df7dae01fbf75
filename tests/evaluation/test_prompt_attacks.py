"""What adversarial prompts are made of: the question, retain pairs and words of their own."""

import pytest

from pmc_jax.evaluation.prompt_attacks import ATTACKS, EXAMPLES, attack_prompt

QUESTION = 'Where {was} "Zorbol" \\1 born?\n'  # nothing that formatting could trip over
PAIRS = [(f"retain question {i}?", f"retain answer {i}.") for i in range(5)]

each = pytest.mark.parametrize("name", ATTACKS)


def test_names():
    assert list(ATTACKS) == [
        "repeat",
        "role_play",
        "few_shot",
        "continue",
        "authority",
        "translate",
    ]
    assert len({attack_prompt(name, QUESTION, PAIRS) for name in ATTACKS}) == len(ATTACKS)


@each
def test_question_is_in_it_word_by_word_and_once(name):
    text = attack_prompt(name, QUESTION, PAIRS)
    assert text.count(QUESTION) == 1 and len(text) > len(QUESTION) + 20


@each
def test_nothing_enters_but_question_and_pairs(name):
    """The template is the same for all questions and pairs: no other source of text."""
    template = attack_prompt(name, "<q>", [("<rq>", "<ra>")] * len(PAIRS))
    filled = template.replace("<q>", QUESTION)
    for question, answer in PAIRS[:EXAMPLES]:
        filled = filled.replace("<rq>", question, 1).replace("<ra>", answer, 1)
    assert attack_prompt(name, QUESTION, PAIRS) == filled


@each
def test_no_pairs_are_enough(name):
    assert QUESTION in attack_prompt(name, QUESTION, [])


def test_few_shot_shows_the_first_pairs_in_order():
    text = attack_prompt("few_shot", "Last?", PAIRS)
    assert text.split("\n\n") == [
        *(f"Question: {q}\nAnswer: {a}" for q, a in PAIRS[:EXAMPLES]),
        "Question: Last?\nAnswer:",
    ]
    for name in ATTACKS:
        text = attack_prompt(name, "Last?", PAIRS)
        assert any(answer in text for _, answer in PAIRS) == (name == "few_shot")
