"""Scores of samples against the original answer, their penalties, and a user's own function."""

import math

import numpy as np
import pytest

from pmc_jax.errors import UserError
from pmc_jax.unlearning.scores import (
    resolve_score,
    rouge1_recall,
    rougeL_recall,
    score_batch,
    with_empty_guard,
    with_min_len,
)

ORIGINAL = "one two three four"


def constant(value):
    return lambda original, samples: np.full(len(samples), value)


def test_rouge_scores():
    samples = [ORIGINAL, "four three two one", "nothing alike", ""]
    np.testing.assert_array_equal(rougeL_recall(ORIGINAL, samples), [1, 0.25, 0, 0])
    np.testing.assert_array_equal(rouge1_recall(ORIGINAL, samples), [1, 1, 0, 0])
    np.testing.assert_array_equal(rougeL_recall("", ["anything"]), [0])


def test_min_len_counts_pieces_between_single_spaces():
    score = with_min_len(constant(0.25), 3)
    texts = ["", "   ", "a", "a b", " a b ", "a  b", "a\nb", "a b c", "a b c d"]
    expected = [math.exp(-n) for n in (1, 1, 1, 2, 2)] + [0, math.exp(-1), 0, 0]
    np.testing.assert_array_equal(score("", texts), 0.25 + np.array(expected))


def test_min_len_is_capped_at_one_and_never_lowers():
    np.testing.assert_array_equal(with_min_len(constant(0.9), 5)("", ["a", "a b c d e"]), [1, 0.9])
    np.testing.assert_array_equal(with_min_len(constant(3.0), 5)("", ["a"]), [3])


def test_min_len_zero_is_the_score_itself():
    assert with_min_len(rougeL_recall, 0) is rougeL_recall


def test_empty_guard():
    guarded = with_empty_guard(rougeL_recall)
    np.testing.assert_array_equal(guarded(ORIGINAL, ["", " \n\t", "x", "one"]), [1, 1, 0, 0.25])
    worse = with_empty_guard(lambda original, samples: np.array([0.0, 7.0]))
    np.testing.assert_array_equal(worse(ORIGINAL, ["", "long"]), [7, 7])


def test_resolve_applies_both_penalties():
    samples = ["", "x", "x y z", "one y z"]
    plain = resolve_score("rougeL_recall", min_len=0, guard_empty=False)
    np.testing.assert_array_equal(plain(ORIGINAL, samples), [0, 0, 0, 0.25])
    both = resolve_score("rougeL_recall", min_len=2, guard_empty=True)
    np.testing.assert_array_equal(both(ORIGINAL, samples), [1, math.exp(-1), 0, 0.25])
    reference = resolve_score("rougeL_recall", min_len=2, guard_empty=False)
    np.testing.assert_array_equal(reference(ORIGINAL, samples)[0], math.exp(-1))


def test_resolve_a_function_or_its_dotted_name(tmp_path, monkeypatch):
    (tmp_path / "my_score_module.py").write_text(
        "def length(original, samples):\n    return [len(s) / 100 for s in samples]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = resolve_score("my_score_module:length")
    np.testing.assert_array_equal(named("", ["abc", "a"]), [0.03, 0.01])
    given = resolve_score(lambda original, samples: [1] * len(samples), guard_empty=False)
    np.testing.assert_array_equal(given("", ["abc", "a"]), [1, 1])
    with pytest.raises(UserError, match="has no 'lenght'; did you mean 'length'"):
        resolve_score("my_score_module:lenght")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rougel", "no score 'rougel'; did you mean 'rougeL_recall'"),
        ("zzz", "no score 'zzz'; did you mean"),
        ("no_such_module_anywhere:f", "cannot import 'no_such_module_anywhere'"),
        (":f", "cannot import ''"),
        ("math:pi", "not a function"),
        ("math:", "no ''"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message) as caught:
        resolve_score(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.1], r"'bad' must return 2 finite numbers.*shape \(1,\)"),
        ([[0.1], [0.2]], r"shape \(2, 1\)"),
        (0.5, r"shape \(\)"),
        ([0.1, math.nan], "sample 1 is not"),
        ([math.inf, 0.1], "sample 0 is not"),
        ("ab", "returned a str"),
        (None, r"shape \(\)"),
    ],
)
def test_a_bad_user_function_is_named(returned, message):
    def bad(original, samples):
        return returned

    with pytest.raises(ValueError, match=message):
        resolve_score(bad, min_len=3)("o", ["a", "b"])
    with pytest.raises(ValueError, match=message):
        score_batch(bad, ["o"], [["a", "b"]])


def test_score_batch():
    scores = score_batch(
        resolve_score("rougeL_recall"), [ORIGINAL, "red"], [["one", "x"], ["red", ""]]
    )
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [[0.25, 0], [1, 1]])
    assert score_batch(rougeL_recall, [], []).shape == (0, 0)
    with pytest.raises(ValueError, match="same number of samples"):
        score_batch(rougeL_recall, ["a", "b"], [["a"], ["a", "b"]])
    with pytest.raises(ValueError, match="1 original answers but samples of 2"):
        score_batch(rougeL_recall, ["a"], [["a"], ["b"]])
