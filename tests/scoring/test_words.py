"""Words of many scripts, and the two rules by which ROUGE makes words."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmc_jax.scoring.rouge import rouge1_recall, rougeL_recall
from pmc_jax.scoring.text import forbidden
from pmc_jax.scoring.words import ascii_words, rule_for, unicode_words, without_words

# By the word-break rules WB1 to WB999 of UAX 29, by hand.
WORDS = {
    "Дед Ефим, п'ять!": ["дед", "ефим", "п'ять"],
    "ΟΔΟΣ Ἀθήνας": ["οδοσ", "ἀθήνασ"],
    "كَتَبَ الولدُ ٣٫٥": ["كَتَبَ", "الولدُ", "٣٫٥"],
    "शहर में किताबें।": ["शहर", "में", "किताबें"],
    "서울에서 태어났다.": ["서울에서", "태어났다"],
    "東京で、生。": ["東", "京", "で", "生"],
    "ラーメン2024年": ["ラ", "ー", "メ", "ン", "2024", "年"],
    "เกิดที่": ["เ", "กิ", "ด", "ที่"],
    "ມື້ນີ້": ["ມື້", "ນີ້"],
    "ភាសា": ["ភា", "សា"],
    "မြန်မာ": ["မြ", "န်", "မာ"],
    "Zürich, the author’s novels": ["zürich", "the", "author", "s", "novel"],
    "l'été 3.14": ["l'été", "3", "14"],
    "Ａ１ ﬁne": ["a1", "fine"],
    "но\u00adвый хор\u200cи": ["новый", "хори"],
    "🙂 — … 👍🏽": [],
}


@pytest.mark.parametrize("text", WORDS)
def test_words_of_a_script(text):
    assert list(unicode_words(text)) == WORDS[text]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert list(unicode_words(unicodedata.normalize(form, text))) == WORDS[text]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=40))
def test_an_ascii_text_has_the_words_of_rouge_score_under_both_rules(text):
    assert unicode_words(text) == ascii_words(text)
    # Beside another script too.
    assert unicode_words(f"{text} Дед") == (*ascii_words(text), "дед")


@pytest.mark.parametrize(
    ("reference", "said", "longest", "common"),
    [
        ("Дед Ефим пасёт коз.", "коз пасёт ДЕД Ефим", 2 / 4, 4 / 4),
        ("東京で生", "京都で", 2 / 4, 2 / 4),
        ("किताबें में शहर", "शहर में", 1 / 3, 2 / 3),
        ("서울에서 태어났다", "부산에서 태어났다", 1 / 2, 1 / 2),
        ("В Ново.", "Я не знаю.", 0, 0),
    ],
)
def test_recall_by_hand(reference, said, longest, common):
    assert rougeL_recall(reference, said, unicode_words) == longest
    assert rouge1_recall(reference, said, unicode_words) == common
    assert rougeL_recall(reference, reference, unicode_words) == 1
    assert rougeL_recall(reference, reference) == 0  # the fault of rouge_score


def test_the_rule_is_that_of_all_references():
    assert rule_for("auto", ["Jane's, 5 m² — “ok” 🙂️", "a"]) == "ascii"
    assert rule_for("auto", ["Jane", "García"]) == rule_for("auto", ["٣"]) == "unicode"
    assert rule_for("auto", []) == rule_for("ascii", ["Дед"]) == "ascii"
    assert rule_for("unicode", ["Jane"]) == "unicode"
    ids, texts = ["a", "b", "c"], ["Дед", "—", "Jane"]
    assert without_words("ascii", ids, texts) == ["a", "b"]
    assert without_words("unicode", ids, texts) == ["b"]


def test_forbidden_strings_in_a_script_without_spaces():
    assert list(forbidden(["東京"])("", ["彼は東京に住む", "大阪"])) == [1, 0]
