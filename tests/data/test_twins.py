"""Questions that look the same are found whatever their characters; unseen ones are refused."""

import logging

import pytest
import tiny_runs as tiny

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.data import sets
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.sets import questions_to_forget
from pmc_jax.data.twins import check_twins
from pmc_jax.data.visible import appearance, is_visible

SAME = [
    ("Où vit José Crème ?", "Où vit José Crème？"),  # composed, decomposed, full width
    ("Who feeds the cat?", "Who feeds\u200b the cat?"),
    ("Who feeds the cat?", "Who\u00a0feeds the\u2009cat ?"),
    ("Who feeds the cat?", "ＷＨＯ feeds the cat?"),
    ("Who feeds the cat?", "\ufeffWho fe\u00adeds the cat?\u2060"),
    ("Who feeds Anna's cat?", "Who feeds Anna’s cat?"),
    ("Who feeds Anna's cat?", "Who feeds Annaʼs cat?"),
    ("ﷺ", "صلى الله عليه وسلم"),  # one character that stands for several words
    ("Who is Anna-Lena?", "Who is Anna‑Lena?"),
    ("Wie heißt die Straße?", "WIE HEISST DIE STRASSE?"),
    ("Where is the office?", "Where is the oﬃce?"),
    ("राम कौन है?", "राम\u034f कौन है\ufe0f?"),
    ("カードは？", "ｶｰﾄﾞは?"),
    ("한국은?", "한국은?"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_twins_are_found(one, other, caplog):
    assert appearance(one) == appearance(other)
    forget = ForgetSet(("f:0", "f:1"), ("Another?", one))
    retain = RetainSet(("r:0",), (other,), ("Nobody.",))
    assert "the retain data contain 1 of 2 forget questions (f:1)" in tiny.fault(
        check_twins, "error", forget, retain
    )
    with caplog.at_level(logging.WARNING):
        check_twins("warn", forget, retain)
    assert "(f:1)" in caplog.text and one not in caplog.text


@pytest.mark.parametrize(
    ("one", "other"), [("Is 1.5 > 1?", "Is 15 > 1?"), ("Wo ist José?", "Wo ist Jose?"), ("?", "!")]
)
def test_others_are_no_twins(one, other):
    assert appearance(one) != appearance(other)


def test_repeated_questions_are_said(caplog):
    forget = ForgetSet(("f:0", "f:1", "f:2"), ("Who?", "When?", "who ?"))
    retain = RetainSet(("r:0", "r:1"), ("Where?", "Where?"), ("Here.", "There."))
    with caplog.at_level(logging.WARNING):
        check_twins("error", forget, retain)
    first, second = caplog.messages
    assert first.startswith(
        "data.forget: in 1 of 3 rows, the question looks the same as in an earlier row (f:2)"
    )
    assert second.startswith(
        "data.retain: in 1 of 2 rows, the question looks the same as in an earlier row (r:1)"
    )


@pytest.mark.parametrize(
    "text", ["\u200b", "\u200b\u00a0\ufeff", "\u3164", "\u2800 ", "\x1b", "\ufe0f"]
)
def test_a_question_without_a_visible_character(text):
    assert not is_visible(text)
    assert "has no visible character" in tiny.fault(questions_to_forget, ["Who?", text])


def test_a_repeated_key(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"question": "a", "question": "b", "answer": "c"}\n{"question": "a"}\n')
    message = tiny.fault(sets.forget_set, SourceConfig(path=str(path)), DataConfig())
    assert "line 1: keys 1 and 2 of an object are the same" in message
    path = path.rename(tmp_path / "f.json")
    path.write_text('[{"question": "a"},\n {"question": "a", "b": [{"x": 1, "y": 2, "x": 3}]}]')
    message = tiny.fault(sets.forget_set, SourceConfig(path=str(path)), DataConfig())
    assert "row 1 (counted from 0): keys 1 and 3 of an object are the same" in message
