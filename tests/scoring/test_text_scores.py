"""Scores of texts: chrF beside sacreBLEU's, embeddings, forbidden strings, weighted means."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pmc_jax.scoring.text import chrf, combined, embedding, forbidden, rougeL_recall

FEW = settings(max_examples=60, deadline=None)
TEXTS = st.text(alphabet="ab Cé.東", max_size=14)


def plain_chrf(original, sample):
    """By the definition, one n-gram at a time."""
    reference, text = ("".join(t.casefold().split()) for t in (original, sample))
    pairs = []
    for n in range(1, 7):
        wanted, given_ = ([t[i : i + n] for i in range(len(t) - n + 1)] for t in (reference, text))
        if wanted and given_:
            common = sum(min(wanted.count(g), given_.count(g)) for g in set(wanted))
            pairs.append((common / len(given_), common / len(wanted)))
    if not any(p for p, _ in pairs):
        return 0.0
    p, r = np.mean(pairs, axis=0)
    return 5 * p * r / (4 * p + r)


def test_chrf_by_hand():
    # "abd" has of "abc" 2 of 3 letters, 1 of 2 pairs and no triple: P = R = (2/3 + 1/2 + 0) / 3.
    np.testing.assert_allclose(chrf("abc", ["abd"]), [7 / 18], rtol=1e-15)
    # "b": one letter, right, of two; pairs are in one text only: P = 1, R = 1/2, 5PR / (4P + R).
    np.testing.assert_allclose(chrf("ab", ["b"]), [5 / 9], rtol=1e-15)
    np.testing.assert_array_equal(chrf("ab", ["ab", "A  B", "xy", "", " "]), [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(chrf(" ", ["ab", ""]), [0, 0])
    assert chrf("ab", []).shape == (0,)


@pytest.mark.parametrize(
    ("original", "sample", "expected"),
    [
        ("Jane Roe was born in Oslo.", "Jane Roe was born in Bergen.", 0.719717700675),
        ("Jane Roe was born in Oslo.", "I do not know.", 0.079436502884),
        (
            "Elinor Vask was born in the quiet town of Brenholm.",
            "JANE was born  in the windy town of Selmouth, by a river.",
            0.411407403328,
        ),
        ("short", "a much longer text with short in it", 0.388535062219),
        ("東京で生まれました。", "京都で生まれた。", 0.268205260143),
        ("aaaa aaaa", "aa aa aa", 0.646540554548),
    ],
)
def test_chrf_is_that_of_sacrebleu(original, sample, expected):
    """sacreBLEU 2.6.0: `CHRF(lowercase=True).sentence_score(sample, [original]).score / 100`."""
    np.testing.assert_allclose(chrf(original, [sample]), [expected], atol=1e-12)


@FEW
@given(TEXTS, st.lists(TEXTS, max_size=4))
@example("aab", ["\x00aab", "baa"])
def test_chrf_of_many_samples_is_that_of_each(original, samples):
    # Sums in another order: a few units in the last place.
    expected = [plain_chrf(original, sample) for sample in samples]
    np.testing.assert_allclose(chrf(original, samples), expected, rtol=1e-13)


SECRETS = ["Oslo", "Jane  Roe", "4 March 1962"]


def test_forbidden_strings_between_word_boundaries():
    score = forbidden(SECRETS, similarity=100)
    samples = {
        "She lives in OSLO.": 1,
        "jane\nroe": 1,
        "Born 4 March 1962": 1,
        "Born 14 March 1962": 0,
        "Ｏｓｌｏ in wide letters": 1,
        "The Osloer Zeitung": 0,
        "Jane met Roe": 0,
        "": 0,
    }
    np.testing.assert_array_equal(score("whatever", list(samples)), list(samples.values()))
    assert score("whatever", []).shape == (0,)


def test_forbidden_strings_nearly_said():
    score = forbidden(SECRETS, similarity=85)
    found = score("", ["It was Jane Row who came", "He came on 4 March 1963.", "Jane", "Osl", "e"])
    # One letter of eight, one of twelve: as much as rapidfuzz's ratio of equal lengths says.
    np.testing.assert_allclose(found, [7 / 8, 11 / 12, 0, 0, 0], rtol=1e-12)
    # The threshold is in the score's own unit, and nothing under it counts.
    np.testing.assert_array_equal(forbidden(SECRETS)("", ["It was Jane Row who came"]), [0])
    # A short string stands by chance in many words, and is looked for exactly.
    np.testing.assert_array_equal(forbidden(["art"])("", ["a party", "an art"]), [0, 1])


@FEW
@given(st.text(alphabet="abc. ", max_size=12))
def test_forbidden_never_says_more_than_one_nor_less_than_the_threshold(text):
    (found,) = forbidden(["abc abc", "cab"], similarity=70)("", [text])
    assert found == 0 or 0.7 <= found <= 1
    assert forbidden(["abc abc", "cab"], similarity=70)("", [f"{text} CAB"])[0] == 1


def counts(texts):
    """A vector of letter counts."""
    return [[text.count(letter) for letter in "abc"] for text in texts]


def test_embedding_is_the_cosine_or_nothing():
    score = embedding(counts)
    expected = [1, 1, 1 / np.sqrt(2), 0, 0]
    np.testing.assert_allclose(score("ab", ["ab", "abab", "a", "c", ""]), expected, rtol=1e-12)
    opposite = embedding(lambda texts: [[1.0 if text else -1.0] for text in texts])
    np.testing.assert_array_equal(opposite("a", ["", "b"]), [0, 1])
    assert score("ab", []).shape == (0,)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: [[1.0]], r"3 vectors.*shape \(1, 1\)"),
        (lambda texts: [1.0] * len(texts), r"shape \(3,\)"),
        (lambda texts: [[np.nan]] * len(texts), "not finite"),
        (lambda texts: [[1.0], [1.0, 2.0], [1.0]], "3 vectors"),
        (lambda texts: None, r"shape \(\)"),
        (lambda texts: 1 // 0, r"3 vectors, but .* raised ZeroDivisionError in line \d+ of"),
    ],
)
def test_a_bad_embedding_is_named(function, message):
    with pytest.raises(
        ValueError, match=f"pmc.score.embedding: the function must return .*{message}"
    ):
        embedding(function)("a", ["b", "c"])


def test_combination_is_the_weighted_mean():
    both = combined([rougeL_recall, forbidden(["Oslo"])], [3, 1])
    original = "Jane lives in Oslo"
    samples = [original, "Oslo", "Jane", "nothing of it", ""]
    np.testing.assert_allclose(both(original, samples), [1, 7 / 16, 3 / 16, 0, 0], rtol=1e-15)
    single = combined([rougeL_recall], [0.1])
    np.testing.assert_array_equal(single(original, samples), rougeL_recall(original, samples))
    assert both(original, []).shape == (0,)
