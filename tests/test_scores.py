"""Scores of samples against the original answer, their penalties, and a user's own function."""

import math

import numpy as np
import pytest

from pmc_jax.config.pmc import PMCConfig, ScoresConfig
from pmc_jax.errors import UserError
from pmc_jax.scoring import (
    NAMES,
    base_score,
    resolve_score,
    rouge1_recall,
    rougeL_recall,
    run_score,
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
    pmc = PMCConfig(score=name, scores=NEEDS.get(name, {}))
    score = base_score(pmc, encode=of_letters)
    found = score(ORIGINAL, [ORIGINAL, "ab z", ""])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], 1, rtol=1e-12)
    assert (found[1:] <= 0.4).all() and (found >= 0).all()


def run(pmc, **changes):
    """The score of a run with one forget question and one neighbour, which scores 1/2."""
    given = {
        "originals": [ORIGINAL],
        "questions": ["Which numbers?"],
        "retain_questions": ["Which letters?"],
        "retain_answers": ["one two a b"],
    }
    return run_score(pmc, **given | changes)


SAMPLES = [ORIGINAL, "one two three", "two four", "x", ""]
WHOLE = {"target": 0.0}


def test_the_score_of_a_run_is_that_of_its_name_by_default():
    expected = resolve_score("rougeL_recall")(ORIGINAL, SAMPLES)
    np.testing.assert_array_equal(run(PMCConfig(scores=WHOLE))(ORIGINAL, SAMPLES), expected)
    own = run(PMCConfig(guard_empty=False, scores=WHOLE), score=constant(0.25))
    np.testing.assert_array_equal(own(ORIGINAL, SAMPLES), [0.25] * 5)
    named = run(PMCConfig(scores=WHOLE | {"weights": {"chrf": 1}}), score="rouge1_recall")
    np.testing.assert_array_equal(named(ORIGINAL, SAMPLES), [1, 0.75, 0.5, 0, 1])


def test_a_weighted_mean_of_names():
    scores = WHOLE | {"weights": {"rougeL_recall": 2, "forbidden": 6}, "forbidden": ["Four"]}
    found = run(PMCConfig(scores=scores))(ORIGINAL, SAMPLES)
    np.testing.assert_allclose(found, [1, 0.75 / 4, 0.5 / 4 + 0.75, 0, 1], rtol=1e-15)


def test_targets_lie_under_the_penalties():
    np.testing.assert_allclose(
        run(PMCConfig(scores={"target": 0.25}))(ORIGINAL, SAMPLES), [1, 2 / 3, 1 / 3, 0, 1]
    )
    retain = PMCConfig(scores={"target_from": "retain"}, min_len=2)
    # Else a short answer would be let through by the target.
    np.testing.assert_allclose(
        run(retain)(ORIGINAL, SAMPLES), [1, 0.5, 0, math.exp(-1), 1], rtol=1e-15
    )


def test_forbidden_strings_from_a_file(tmp_path):
    path = tmp_path / "secrets.txt"
    path.write_text("two four\n\nseven\n")
    found = run(PMCConfig(score="forbidden", scores={"forbidden_file": str(path)}))
    np.testing.assert_array_equal(found(ORIGINAL, SAMPLES), [0, 0, 1, 0, 1])
    path.write_text("")
    with pytest.raises(UserError, match=r"^pmc.scores.forbidden_file: .* is empty"):
        base_score(PMCConfig(score="forbidden", scores={"forbidden_file": str(path)}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "chrff"}, "^pmc.score: no score 'chrff'; did you mean 'chrf'"),
        (
            {"scores": {"weights": {"chrf": 1, "rouge1": 1}}},
            "^pmc.scores.weights: no score 'rouge1'; did you mean 'rouge1_recall'",
        ),
        ({"scores": {"weights": {5: 1}}}, "^pmc.scores.weights: 5 is not a function"),
        ({"score": "token_lcs"}, "^pmc.score: token_lcs needs a tokenizer"),
        (
            {"score": "embedding", "scores": {"embedding": "math:sinus"}},
            "^pmc.scores.embedding: module 'math' has no 'sinus'; did you mean 'sin'",
        ),
        (
            {"score": "embedding", "scores": {"embedding": "sentences"}},
            "^pmc.scores.embedding: cannot import|has no ''",
        ),
    ],
)
def test_unknown_names_in_settings(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        base_score(PMCConfig(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "forbidden"}, "scores.forbidden: needed by the score forbidden"),
        ({"score": "embedding"}, "scores.embedding: needed by"),
        ({"scores": {"forbidden": ["a"]}}, "scores.forbidden: no score reads it; add forbidden to"),
        ({"scores": {"embedding": "m:f"}}, "scores.embedding: no score reads it"),
        ({"score": "forbidden", "scores": {"forbidden": ["a", " "]}}, "scores.forbidden.1: exp"),
        ({"scores": {"weights": {"chrf": 0}}}, "scores.weights.chrf: expected a number above 0"),
        ({"scores": {"weights": {"chrf": "x"}}}, "scores.weights.chrf: expected a finite number"),
        ({"scores": {"weights": ["chrf"]}}, "scores.weights: expected a mapping"),
        ({"scores": {"target": 1}}, "scores.target: expected from 0 to below 1"),
        ({"scores": {"target_from": "base"}}, "scores.target_from: expected one of retain"),
        ({"scores": {"max_perplexity": 0.5}}, "scores.max_perplexity: expected at least 1"),
        ({"scores": {"max_repetition": 2}}, "scores.max_repetition: expected from 0 to 1"),
        ({"scores": {"min_word": 2}}, "scores.min_word: unknown key, did you mean .*min_words"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=f"^PMCConfig: {message}") as caught:
        PMCConfig(**settings)
    assert "\n" not in str(caught.value)


def test_every_setting_of_scores_has_a_line_in_its_docstring():
    for name in vars(ScoresConfig)["__annotations__"]:
        assert f" {name}: " in ScoresConfig.__doc__, name
