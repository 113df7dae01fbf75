"""ROUGE recall equals rouge_score and the published per-sample numbers, to exact equality."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from pmc_jax.scoring.rouge import rouge1_recall, rougeL_recall, rougeL_recall_many
from pmc_jax.scoring.words import ascii_words

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "tofu_eval"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs shared/conformance/tofu_eval")

SCORER = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)

# Words with shared stems, short words that are not stemmed, and characters that rouge_score drops
# or that change under lower(): the Kelvin sign becomes an ASCII k, a dotted capital I two letters.
STEMS = "the novel novels novelist ponies pony running runs ran dies caresses relational skies oed"
OTHERS = "x 1991 05/11/1991 LGBTQ+ author's naïve José Zürich İstanbul \u212aelvin 東京 Ａ１ — ..."
WORDS = st.sampled_from([*STEMS.split(), *OTHERS.split(), "", "\n", "\t", "\u00a0"])
TEXTS = st.one_of(
    st.lists(WORDS, max_size=14).map(" ".join),
    st.text(max_size=40),
    st.text(alphabet="aAbeEdDsSyiIng 1é\n-", max_size=60),
)


@needs_cases
def test_conformance_cases():
    lines = (CASES / "core_rouge.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    assert len(cases) == 92
    for case in cases:
        pair = case["reference"], case["candidate"]
        assert rougeL_recall(*pair) == case["rougeL_recall"], case["i"]
        assert rouge1_recall(*pair) == case["rouge1_recall"], case["i"]


@needs_cases
@pytest.mark.parametrize("split", ["retain", "forget", "real_authors", "world_facts"])
def test_published_logs(split):
    files = sorted(CASES.glob(f"logs/*/{split}.jsonl.gz"))
    assert len(files) == 4
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        truths, answers = zip(*((r["ground_truth"], r["generated"]) for r in rows), strict=True)
        longest = rougeL_recall_many(truths, answers)
        np.testing.assert_array_equal(longest, [row["rougeL_recall"] for row in rows])
        common = list(map(rouge1_recall, truths, answers))
        assert common == [row["rouge1_recall"] for row in rows]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(TEXTS, TEXTS)
def test_equals_rouge_score(reference, hypothesis):
    expected = SCORER.score(reference, hypothesis)
    assert rougeL_recall(reference, hypothesis) == expected["rougeL"].recall
    assert rouge1_recall(reference, hypothesis) == expected["rouge1"].recall


def test_long_texts_equal_rouge_score():
    # Above 64 tokens rapidfuzz takes another code path (blocks of machine words).
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{n}s" for n in range(30)])
    for length in (63, 64, 65, 200):
        reference, hypothesis = (" ".join(rng.choice(vocabulary, length)) for _ in range(2))
        expected = SCORER.score(reference, hypothesis)["rougeL"].recall
        assert 0.2 < rougeL_recall(reference, hypothesis) == expected < 1


def test_hand_computed():
    assert rougeL_recall("one two three four", "one three two four") == 3 / 4
    assert rouge1_recall("one two three four", "one three two four") == 1.0
    assert rougeL_recall("a a b", "a b c") == 2 / 3
    assert rouge1_recall("a a b", "b a c") == 2 / 3
    assert ascii_words("The Author's NOVELS, 1991!") == ("the", "author", "s", "novel", "1991")


@pytest.mark.parametrize("pair", [("", "some text"), ("some text", ""), ("", ""), ("東京", "東京")])
def test_nothing_to_compare_is_zero(pair):
    assert rougeL_recall(*pair) == 0.0
    assert rouge1_recall(*pair) == 0.0


def test_many_shape_dtype_and_lengths():
    result = rougeL_recall_many(["a b", "c"], ["b", "d"])
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, [0.5, 0.0])
    assert rougeL_recall_many([], []).shape == (0,)
    with pytest.raises(ValueError, match="shorter than"):
        rougeL_recall_many(["a", "b"], ["a"])
