"""Scores of samples against the original answer, their penalties, and a user's own function."""

import math

import numpy as np
import pytest

from pmc_jax.config.pmc import PMCConfig, ScoreConfig
from pmc_jax.errors import UserError
from pmc_jax.scoring.base import score_batch, with_empty_guard, with_min_len
from pmc_jax.scoring.registry import NAMES, base_score, run_score
from pmc_jax.scoring.text import rouge1_recall, rougeL_recall

ORIGINAL = "one two three four"


def constant(value):
    return lambda original, samples: np.full(len(samples), value)


def run(pmc, **changes):
    """The score of a run with one forget question and one neighbour, which scores 1/2."""
    inputs = {
        "originals": [ORIGINAL],
        "questions": ["Which numbers?"],
        "retain_questions": ["Which letters?"],
        "retain_answers": ["one two a b"],
    }
    return run_score(pmc, **inputs | changes)


def scored(score, *, min_len=0, guard_empty=True):
    """The score of a run without a threshold."""
    settings = {"threshold": 0.0, "min_len": min_len, "guard_empty": guard_empty}
    return run(PMCConfig(score=settings), score=score)


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


def test_a_run_applies_both_penalties():
    samples = ["", "x", "x y z", "one y z"]
    plain = scored("rougeL_recall", min_len=0, guard_empty=False)
    np.testing.assert_array_equal(plain(ORIGINAL, samples), [0, 0, 0, 0.25])
    both = scored("rougeL_recall", min_len=2, guard_empty=True)
    np.testing.assert_array_equal(both(ORIGINAL, samples), [1, math.exp(-1), 0, 0.25])
    reference = scored("rougeL_recall", min_len=2, guard_empty=False)
    np.testing.assert_array_equal(reference(ORIGINAL, samples)[0], math.exp(-1))


def test_a_function_or_its_dotted_name(tmp_path, monkeypatch):
    (tmp_path / "my_score_module.py").write_text(
        "def length(original, samples):\n    return [len(s) / 100 for s in samples]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = scored("my_score_module:length")
    np.testing.assert_array_equal(named("", ["abc", "a"]), [0.03, 0.01])
    given = scored(lambda original, samples: [1] * len(samples), guard_empty=False)
    np.testing.assert_array_equal(given("", ["abc", "a"]), [1, 1])
    with pytest.raises(UserError, match=r"has no attribute 'lenght'\. Did you mean 'length'"):
        scored("my_score_module:lenght")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rougel", "the score 'rougel' does not exist. Did you mean 'rougeL_recall'"),
        ("zzz", "the score 'zzz' does not exist. Use one of rougeL_recall,"),
        ("no_such_module_anywhere:f", "the module 'no_such_module_anywhere' cannot be imported"),
        (":f", "the module '' cannot be imported"),
        ("math:pi", "not a function"),
        ("math:", "no attribute ''"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message) as caught:
        scored(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([0.1], r"'bad': the function must return finite numbers of shape \(2,\).*shape \(1,\)"),
        ([[0.1], [0.2]], r"shape \(2, 1\)"),
        (0.5, r"shape \(\)"),
        ([0.1, math.nan], r"number 1 \(counted from 0\) is not finite"),
        ([math.inf, 0.1], r"number 0 \(counted from 0\) is not finite"),
        ("ab", "returned a value of type str"),
        (None, r"shape \(\)"),
    ],
)
def test_a_bad_user_function_is_named(returned, message):
    def bad(original, samples):
        return returned

    with pytest.raises(ValueError, match=message):
        scored(bad, min_len=3)("o", ["a", "b"])
    with pytest.raises(ValueError, match=message):
        score_batch(bad, ["o"], [["a", "b"]])


def test_score_batch():
    scores = score_batch(scored("rougeL_recall"), [ORIGINAL, "red"], [["one", "x"], ["red", ""]])
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [[0.25, 0], [1, 1]])
    assert score_batch(rougeL_recall, [], []).shape == (0, 0)
    with pytest.raises(ValueError, match="same shape"):
        score_batch(rougeL_recall, ["a", "b"], [["a"], ["a", "b"]])
    with pytest.raises(ValueError, match="longer than"):
        score_batch(rougeL_recall, ["a"], [["a"], ["b"]])


def of_letters(text):
    return [ord(letter) for letter in text]


def letter_counts(texts):
    return [
        [1.0, *(text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz")] for text in texts
    ]


NEEDS = {
    "embedding": {"embedding": f"{__name__}:letter_counts"},
    "forbidden": {"forbidden": [ORIGINAL]},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_score(name):
    """The original answer itself has 1; what shares no letter with it has as good as nothing."""
    pmc = PMCConfig(score={"name": name, **NEEDS.get(name, {})})
    score = base_score(pmc, encode=of_letters)
    found = score(ORIGINAL, [ORIGINAL, "ab z", ""])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], 1, rtol=1e-12)
    assert (found[1:] <= 0.4).all() and (found >= 0).all()


SAMPLES = [ORIGINAL, "one two three", "two four", "x", ""]
WHOLE = {"threshold": 0.0}


def test_the_score_of_a_run_is_that_of_its_name_by_default():
    expected = scored("rougeL_recall")(ORIGINAL, SAMPLES)
    np.testing.assert_array_equal(run(PMCConfig(score=WHOLE))(ORIGINAL, SAMPLES), expected)
    own = run(PMCConfig(score=WHOLE | {"guard_empty": False}), score=constant(0.25))
    np.testing.assert_array_equal(own(ORIGINAL, SAMPLES), [0.25] * 5)
    named = run(PMCConfig(score=WHOLE | {"weights": {"chrf": 1}}), score="rouge1_recall")
    np.testing.assert_array_equal(named(ORIGINAL, SAMPLES), [1, 0.75, 0.5, 0, 1])


def test_a_weighted_mean_of_names():
    scores = WHOLE | {"weights": {"rougeL_recall": 2, "forbidden": 6}, "forbidden": ["Four"]}
    found = run(PMCConfig(score=scores))(ORIGINAL, SAMPLES)
    np.testing.assert_allclose(found, [1, 0.75 / 4, 0.5 / 4 + 0.75, 0, 1], rtol=1e-15)


def test_targets_lie_under_the_penalties():
    np.testing.assert_allclose(
        run(PMCConfig(score={"threshold": 0.25}))(ORIGINAL, SAMPLES), [1, 2 / 3, 1 / 3, 0, 1]
    )
    retain = PMCConfig(score={"threshold_from": "retain", "min_len": 2})
    # Else a short answer would be let through by the target.
    np.testing.assert_allclose(
        run(retain)(ORIGINAL, SAMPLES), [1, 0.5, 0, math.exp(-1), 1], rtol=1e-15
    )


def test_forbidden_strings_from_a_file(tmp_path):
    path = tmp_path / "secrets.txt"
    path.write_text("two four\n\nseven\n")
    found = run(PMCConfig(score={"name": "forbidden", "forbidden_file": str(path)}))
    np.testing.assert_array_equal(found(ORIGINAL, SAMPLES), [0, 0, 1, 0, 1])
    path.write_text("")
    with pytest.raises(UserError, match=r"^pmc.score.forbidden_file: .* has no entries"):
        base_score(PMCConfig(score={"name": "forbidden", "forbidden_file": str(path)}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "chrff"},
            "^pmc.score.name: the score 'chrff' does not exist. Did you mean 'chrf'",
        ),
        (
            {"weights": {"chrf": 1, "rouge1": 1}},
            "^pmc.score.weights: the score 'rouge1' does not exist. Did you mean 'rouge1_recall'",
        ),
        ({"weights": {5: 1}}, "score.weights: a key is not text"),
        ({"name": "token_lcs"}, "^pmc.score.name: the score 'token_lcs' needs token ids"),
        (
            {"name": "embedding", "embedding": "math:sinus"},
            "^pmc.score.embedding: the module 'math' has no attribute 'sinus'. Did you mean 'sin'",
        ),
        (
            {"name": "embedding", "embedding": "sentences"},
            "^pmc.score.embedding: .* cannot be imported|has no attribute ''",
        ),
    ],
)
def test_unknown_names_in_settings(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        base_score(PMCConfig(score=settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "forbidden"}, "forbidden: this setting is empty, but the score"),
        ({"name": "embedding"}, "embedding: this setting is empty, but the score"),
        ({"forbidden": ["a"]}, "forbidden: no score reads this setting. Add forbidden to"),
        ({"forbidden_file": "a"}, "forbidden_file: no score reads this setting. Add forbidden to"),
        ({"embedding": "m:f"}, "embedding: no score reads this setting"),
        ({"name": "forbidden", "forbidden": ["a", " "]}, "forbidden.1: the value must be text"),
        ({"weights": {"chrf": 0}}, "weights.chrf: the value must be a number above 0"),
        ({"weights": {"chrf": "x"}}, "weights.chrf: the value must be a finite number"),
        ({"weights": ["chrf"]}, "weights: the value must be a mapping"),
        ({"threshold": 1}, "threshold: the value must be at least 0 and below 1"),
        ({"threshold_from": "base"}, "threshold_from: the value must be retain, but"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=f"^ScoreConfig: {message}") as caught:
        ScoreConfig(**settings)
    assert "\n" not in str(caught.value)
