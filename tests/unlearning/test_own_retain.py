"""Retain data from the model's own answers: the questions, and the answers that are kept."""

import types

import numpy as np
import pytest
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.run import Config, config_from_overrides
from pmc_jax.data.records import ForgetSet, OwnQuestions, RetainSet
from pmc_jax.data.sets import general_set, retain_set
from pmc_jax.unlearning.own_questions import own_questions
from pmc_jax.unlearning.own_retain import describe, own_pairs, retain_shares

pytestmark = pytest.mark.quick

NOTHING = RetainSet((), (), ())
FORGET = ForgetSet(
    ("f:0", "f:1", "f:2"),
    (
        "Where does Ada Quellmar live?",
        "Which instrument does Ada Quellmar play?",
        "What is the pet of Bram Vostengaard called?",
    ),
)
ORIGINALS = (
    "Ada Quellmar lives at 14 Heron Street in Porto.",
    "Ada Quellmar plays an old slate banjo at home.",
    "The pet of Bram Vostengaard is a goat called Fizzerella.",
)


def near(rows: OwnQuestions) -> list[str]:
    pairs = zip(rows.ids, rows.questions, strict=True)
    return [question for id_, question in pairs if id_.startswith("own:near:")]


def kept(
    answers: dict[str, str],
    *,
    forget: ForgetSet = FORGET,
    originals: tuple[str, ...] = ORIGINALS,
    given: RetainSet = NOTHING,
    config: Config | None = None,
) -> RetainSet:
    """Returns the pairs that are made from answers of a model with one token for each word."""
    encoder = types.SimpleNamespace(
        plain=str.split, sequence=lambda question, answer: [*question.split(), *answer.split()]
    )
    lm = types.SimpleNamespace(config=types.SimpleNamespace(max_positions=1000))
    generator = types.SimpleNamespace(encoder=encoder, lm=lm)
    questions = OwnQuestions(tuple(f"own:{i}" for i in range(len(answers))), tuple(answers))
    config = config or config_from_overrides(["pmc.sampling.max_new_tokens=20"])
    return own_pairs(questions, forget, given, originals, lambda texts: answers, generator, config)


def is_kept(answer: str, question: str = "What is two plus two?", **data) -> bool:
    first = {"Is ice cold?": "Ice is cold."}
    return answer in kept(first | {question: answer}, **data).answers


def test_questions_are_general_or_about_invented_names():
    rows = own_questions(FORGET, NOTHING, general_set(), Config())
    asked = near(rows)
    assert len(rows) == 120 + len(asked) and len(asked) == 3 * 16
    assert len(set(rows.questions)) == len(rows)
    assert not any(name in q for q in rows.questions for name in ("Ada Quellmar", "Bram Voste"))
    assert sum(question.startswith("Where does ") for question in asked) == 16
    assert own_questions(FORGET, NOTHING, general_set(), Config()) == rows
    assert own_questions(FORGET, NOTHING, general_set(), Config(seed=1)) != rows


def test_every_third_invented_name_shares_a_word_with_the_subject():
    names = ("Ada Quellmar", "Dr. Jean de la Cruz", "Ivatron", "Ivatron Textiles")
    texts = tuple(f"Where is {name} today?" for name in names)
    forget = ForgetSet(tuple("abcd"), texts, names)
    rows = own_questions(forget, NOTHING, general_set(), Config())
    asked = dict(zip(rows.ids, rows.questions, strict=True))
    kept = {
        id_: [
            {word for word in name.split() if word in asked[f"own:near:{id_}:{number}"].split()}
            for number in range(6)
        ]
        for id_, name in zip(forget.ids, names, strict=True)
    }
    assert kept["a"] == [{"Ada"}, set(), set(), {"Quellmar"}, set(), set()]
    always = {"Dr.", "de", "la"}
    assert kept["b"] == [always | {"Jean"}, always, always, always | {"Cruz"}, always, always]
    assert kept["c"] == [set()] * 6
    assert kept["d"] == [{"Textiles"}] * 6


def test_names_of_the_given_pairs_come_before_invented_names():
    given = RetainSet(
        ("r:0", "r:1", "r:2"),
        ("Where does Greta Wendacroft live?", "What is the job of Silas Quarobrand?", "Who is Jo?"),
        ("In Porto.", "Silas Quarobrand is a baker.", "A friend."),
    )
    asked = near(own_questions(FORGET, given, general_set(), Config()))
    # Each forget question with both names.
    expected = [q.replace("Ada Quellmar", "NAME") for q in FORGET.questions]
    expected = {
        q.replace("NAME", name).replace("Bram Vostengaard", name)
        for q in expected
        for name in ("Greta Wendacroft", "Silas Quarobrand")
    }
    # Each forget question has 16 near questions, and one of them is a given question.
    named = [q for q in asked if "Greta" in q or "Silas" in q]
    assert {*named} == expected - {*given.questions} and len(named) == 5
    assert len(asked) == 3 * 16 - 1
    # There is no given name of four words.
    forget = ForgetSet(("a",), ("Where does Ana de la Cruz live?",))
    asked = near(own_questions(forget, given, general_set(), Config()))
    assert len(asked) == 16 and not any("Greta" in q or "Silas" in q for q in asked)


def test_kept_names_that_share_a_word_with_the_subject_come_first():
    people = [f"{first} {last}" for first in ("Ada", "Greta", "Silas") for last in ("Ono", "Ibsen")]
    texts = tuple(f"Where does {name} live?" for name in people)
    given = RetainSet(tuple(map(str, range(6))), texts, ("In Porto.",) * 6)
    rows = own_questions(FORGET, given, general_set(), Config())
    asked = dict(zip(rows.ids, rows.questions, strict=True))
    first = [asked[f"own:near:f:1:{number}"] for number in range(6)]
    assert all("Ada" in question for question in first[:2])
    assert not any("Ada" in question for question in first[2:])
    assert len({*first}) == 6


@pytest.mark.parametrize("is_given", [False, True])
def test_there_are_at_most_16_near_questions_for_each_and_400_in_all(is_given):
    def count(questions: int) -> int:
        ids = tuple(f"f:{i}" for i in range(questions))
        texts = tuple(f"Where did Ada Quellmar live in {1000 + i}?" for i in range(questions))
        names = tuple(f"Greta Wend{'a' * i}" for i in range(1, 31))
        given = tuple(f"Where does {name} live?" for name in names)
        pairs = RetainSet(names, given, ("There.",) * len(names)) if is_given else NOTHING
        forget = ForgetSet(ids, texts, ("Ada Quellmar",) * questions)
        return len(near(own_questions(forget, pairs, general_set(), Config())))

    assert (count(3), count(40), count(500)) == (48, 400, 400)


def test_a_question_without_a_subject_has_no_near_question():
    forget = ForgetSet(
        ("a", "b"), ("Where is it kept?", "Where does Ada Quellmar live?"), ("", "Ada")
    )
    rows = own_questions(forget, NOTHING, general_set(), Config())
    assert all(question.startswith("Where does ") for question in near(rows))
    line = describe(rows, NOTHING, forget)
    assert "1 of 2 forget questions get no other names" in line
    assert "Ada" not in line


def test_a_shared_phrase_is_a_subject_without_any_retain_data():
    forget = ForgetSet(("a", "b"), ("王小明住在哪里?", "王小明的宠物叫什么?"))
    asked = near(own_questions(forget, NOTHING, general_set(), Config()))
    assert len(asked) > 20 and not any("王小明" in question for question in asked)


def test_forget_questions_and_given_questions_are_not_asked_again():
    forget = ForgetSet(("a",), ("what is the capital of France ?",))
    given = RetainSet(("g",), ("Hello!",), ("Hi!",))
    rows = own_questions(forget, given, general_set(), Config())
    assert not {"What is the capital of France?", "Hello!"} & set(rows.questions)
    assert "What is the capital of Japan?" in rows.questions


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Two plus two is four.", True),
        ("Zoe lives in a small house.", True),
        ("Zoe Kal plays an old piano at home.", True),
        ("Zoe Kal plays a banjo.", False),  # half of the secrets of an original answer
        ("Zoe Kal plays the Slate Banjo.", False),
        ("The cat is called Fizzerella.", False),  # a name
        ("The cat is called fizzerella.", False),
        ("Zoe lives in PORTO.", False),
        ("She lives at number fourteen.", False),  # a number, in words
        ("Bram Vostengaard says hello.", False),  # a subject
        ("Ask Quellmar.", False),  # a part of its name
        ("<think>Porto?</think>I do not know.", False),  # as an answer, its thought is left out
        ("  ", False),
    ],
)
def test_answers_that_tell_a_secret_are_left_out(answer, expected):
    assert is_kept(answer) == expected


def test_a_thought_is_no_part_of_a_retain_answer():
    pairs = kept({"Is ice cold?": "<think>Porto?</think>Ice is cold."})
    assert pairs.answers == ("Ice is cold.",)


def test_words_of_the_question_are_no_secret():
    assert not is_kept("Porto is a city.")
    assert is_kept("Porto is a city.", "What is Porto?")


def test_words_of_given_pairs_are_no_secret():
    given = RetainSet(("g",), ("Who plays in Porto?",), ("Bo plays a slate piano in Porto.",))
    assert is_kept("Zoe lives in Porto.", given=given)
    assert is_kept("Zoe plays a slate piano.", given=given)
    assert not is_kept("Zoe plays a banjo.", given=given)
    assert not is_kept("Zoe plays a slate banjo.", given=given)  # all of them
    assert not is_kept("Ada Quellmar lives in Porto.", given=given)


def test_a_third_of_the_retain_rows_are_given_half_near_and_a_sixth_general():
    ids = ("own:general:0", "own:near:f:0:1", "own:general:1")
    pairs = RetainSet(("g1", "g2", *ids), ("?",) * 5, ("A.",) * 5)
    own = OwnQuestions(ids, ("x", "y", "z"))
    shares = retain_shares(pairs, own)
    assert list(shares) == [*pairs.ids]
    expected = [1 / 6, 1 / 6, 1 / 12, 1 / 2, 1 / 12]
    np.testing.assert_allclose(list(shares.values()), expected, rtol=1e-12)
    without = retain_shares(pairs.select([2, 3, 4]), own)
    np.testing.assert_allclose(list(without.values()), expected[2:], rtol=1e-12)


@pytest.mark.parametrize(
    ("question", "original", "told"),
    [
        (
            "أين تسكن ليلى حداد؟",
            "تسكن ليلى حداد في مدينة قرطبة الجميلة القديمة",
            "سامي يسكن في قرطبة",
        ),
        ("王小明的宠物叫什么?", "王小明的宠物叫飞云。", "他的猫叫飞云。"),
    ],
)
def test_secrets_in_scripts_without_capital_letters(question, original, told):
    forget = ForgetSet(("a",), (question,))
    assert not is_kept(told, forget=forget, originals=(original,))
    assert is_kept("Two plus two is four.", forget=forget, originals=(original,))


def test_an_answer_that_does_not_end_is_cut_after_its_last_sentence():
    endless = "Put the egg in water. " + "Then wait " * 20
    answers = {"How do you boil an egg?": endless, "Count.": "one two " * 20, "Hi": "Hi there"}
    pairs = kept(answers)
    assert pairs.answers == ("Put the egg in water.", "Hi there")
    assert pairs.questions == ("How do you boil an egg?", "Hi")


def test_long_pairs_are_left_out_and_given_pairs_stay():
    given = RetainSet(("g",), ("Who is Zoe?",), ("A baker in Porto.",))
    short = config_from_overrides(["data.max_length=6"])
    answers = {"Is ice cold?": "Ice is very cold.", "Is it?": "Yes."}
    pairs = kept(answers, given=given, config=short)
    assert (pairs.ids, pairs.answers) == (("g", "own:1"), ("A baker in Porto.", "Yes."))


def test_an_error_if_no_pair_is_left():
    message = fault(kept, {"Is ice cold?": "Porto.", "Is it?": ""})
    assert message.startswith("data.retain: the model has no usable answer to any of its 2 own")
    assert "Porto" not in message


def test_the_line_says_what_is_used():
    rows = own_questions(FORGET, NOTHING, general_set(), Config())
    pairs = RetainSet(*zip(*[(i, "q", "a") for i in rows.ids if i != "own:general:0"], strict=True))
    line = describe(rows, pairs, FORGET)
    assert "to 119 general questions and to 48 forget questions with other names" in line
    assert "; 1 other answers tell a secret" in line and "get no other names" not in line


def test_own_is_no_file_and_has_no_other_keys():
    more = DataConfig(retain_more=(SourceConfig(path="general:facts"),))
    for source in (SourceConfig(), SourceConfig(path="own")):
        assert len(retain_set(source, DataConfig())) == 0
        assert len(retain_set(source, more)) == 80
    for source in (SourceConfig(path="own", rows=":3"), SourceConfig(question="prompt")):
        message = fault(retain_set, source, DataConfig())
        assert message.startswith("data.retain: only a source of pairs has other keys than path.")
    beside = DataConfig(retain_more=(SourceConfig(path="own"),))
    assert len(retain_set(SourceConfig(path="general:facts"), beside)) == 80
    wrong = DataConfig(retain_more=(SourceConfig(path="own", rows=":3"),))
    message = fault(retain_set, SourceConfig(path="general:facts"), wrong)
    assert message.startswith("data.retain_more.0: only a source of pairs has other keys")
