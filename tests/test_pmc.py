"""The algorithm's host side: selection, the plan of steps, and a round of the store."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pmc_jax.scoring import resolve_score
from pmc_jax.training.order import epoch_order, epoch_rows, total_steps
from pmc_jax.unlearning.pmc import (
    overlap,
    plan,
    question_word_dropout,
    sample_answer_prefix,
    score_moments,
    select,
    selection_rng,
    update_store,
)
from pmc_jax.unlearning.store import ResponseStore

RNG = np.random.default_rng


def test_best_is_the_first_lowest_and_draws_nothing():
    rng = RNG(0)
    assert select(np.array([0.5, 0.1, 0.1, 0.9]), "best", 0.1, rng) == 1
    assert select(np.array([0.5, 0.1, 0.1, 0.9]), "bradley_terry", 0.0, rng) == 1
    assert rng.bit_generator.state == RNG(0).bit_generator.state


def test_bradley_terry_frequencies():
    scores, tau, draws = np.array([0.0, 0.2, 0.2, 0.7, 1.0]), 0.4, 4000
    reward = 1 - scores
    expected = np.exp(reward / tau) / np.exp(reward / tau).sum()
    rng = RNG(1)
    counts = np.bincount(
        [select(scores, "bradley_terry", tau, rng) for _ in range(draws)], minlength=5
    )
    assert stats.chisquare(counts, draws * expected).pvalue > 0.01
    # The test has teeth: neighbouring temperatures are rejected.
    for wrong in (0.32, 0.5):
        other = np.exp(reward / wrong) / np.exp(reward / wrong).sum()
        assert stats.chisquare(counts, draws * other).pvalue < 1e-4


@pytest.mark.parametrize("tau", [1e-3, 1e-300, 5e-324])
def test_bradley_terry_with_a_small_tau_is_best(tau):
    rng = RNG(2)
    scores = np.array([900.0, 0.5, 0.25, 1.0])
    assert {select(scores, "bradley_terry", tau, rng) for _ in range(50)} == {2}


def test_bradley_terry_with_a_large_tau_is_uniform():
    rng = RNG(3)
    counts = np.bincount([select(np.arange(4), "bradley_terry", 1e9, rng) for _ in range(2000)])
    assert stats.chisquare(counts).pvalue > 0.01


def test_select_rejects():
    with pytest.raises(ValueError, match="best or bradley_terry, not 'worst'"):
        select(np.zeros(2), "worst", 0.1, RNG(0))
    with pytest.raises(ValueError, match="tau is -1"):
        select(np.zeros(2), "best", -1, RNG(0))


def test_order_is_a_permutation_that_changes_with_epoch_and_seed():
    orders = [epoch_order(20, epoch, seed) for epoch, seed in itertools.product(range(3), range(2))]
    for order in orders:
        assert sorted(order) == list(range(20))
    assert len({tuple(order) for order in orders}) == 6
    np.testing.assert_array_equal(epoch_order(20, 1, 0), orders[2])


@pytest.mark.parametrize(
    ("num", "rows", "epochs", "steps"),
    # The last two are the published Phi-1.5 and Llama-3.2-3B runs.
    [(8, 4, 1, 2), (9, 4, 2, 5), (3, 8, 1, 1), (400, 64, 40, 250), (400, 16, 30, 750)],
)
def test_total_steps(num, rows, epochs, steps):
    assert total_steps(num, rows, epochs) == steps


def test_plan_walks_the_epochs_one_after_the_other_and_fills_the_last_step():
    steps = list(plan(10, 7, 4, 3, seed=5))
    assert [step.index for step in steps] == list(range(8))
    assert [step.epoch for step in steps] == [0, 0, 0, 1, 1, 2, 2, 2]
    orders = np.concatenate([epoch_order(10, epoch, 5) for epoch in range(4)])
    np.testing.assert_array_equal(np.concatenate([s.forget for s in steps]), orders[:32])
    for step in steps:
        assert step.forget.shape == step.retain.shape == (4,)
        assert step.retain.min() >= 0 and step.retain.max() < 7


def test_a_step_of_more_rows_than_questions_holds_several_epochs():
    (step,) = plan(3, 5, 8, 1, seed=0)
    orders = np.concatenate([epoch_order(3, epoch, 0) for epoch in range(3)])
    np.testing.assert_array_equal(step.forget, orders[:8])
    np.testing.assert_array_equal(epoch_rows(3, 8, 0, 0), orders[:8])


def test_plan_retain_rows_are_uniform_with_replacement():
    draws = np.concatenate([step.retain for step in plan(100, 10, 20, 40, seed=0)])
    assert len(draws) == 4000
    assert stats.chisquare(np.bincount(draws, minlength=10)).pvalue > 0.01
    assert any(len(set(step.retain)) < 20 for step in plan(100, 50, 20, 1, seed=0))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 7, 8])
def test_plan_resumes_with_the_same_steps(start):
    whole = list(plan(10, 7, 4, 3, seed=5))[start:]
    resumed = list(plan(10, 7, 4, 3, seed=5, start=start))
    assert len(whole) == len(resumed)
    for one, other in zip(whole, resumed, strict=True):
        assert (one.epoch, one.index) == (other.epoch, other.index)
        np.testing.assert_array_equal(one.forget, other.forget)
        np.testing.assert_array_equal(one.retain, other.retain)


def test_plan_depends_on_the_seed_and_rejects_empty_data_at_once():
    first, second = (next(plan(50, 50, 8, 1, seed=seed)) for seed in (0, 1))
    assert list(first.forget) != list(second.forget)
    assert list(first.retain) != list(second.retain)
    with pytest.raises(ValueError, match="num_retain is 0"):
        plan(4, 0, 4, 1, seed=0)


def test_update_store_keeps_the_best_sample_a_question():
    store = ResponseStore(["a", "b", "c"])
    originals = ["one two three four", "red green"]
    samples = [["one two", "one", "one x"], ["red green", "red", "green"]]
    score = resolve_score("rougeL_recall")
    mean = update_store(store, ["a", "b"], originals, samples, score, "best", 0.1, RNG(0))
    assert mean == (0.25 + 0.5) / 2
    assert store.answers == {"a": "one", "b": "red", "c": None}
    assert store.scores == {"a": 0.25, "b": 0.5, "c": math.inf}
    # Worse samples count in the mean but do not replace.
    again = [["one two three"] * 3, ["blue", "red", "green"]]
    mean = update_store(store, ["a", "b"], originals, again, score, "best", 0.1, RNG(0))
    assert mean == (0.75 + 0) / 2
    assert store.answers == {"a": "one", "b": "blue", "c": None}
    assert store.unresolved(["a", "b", "c"]) == ["a", "c"]


def test_an_empty_sample_wins_only_without_the_guard():
    original, ids = ["one two"], ["a"]
    for guard, expected in ((True, "one two"), (False, "")):
        store = ResponseStore(ids, guard_empty=guard)
        score = resolve_score("rougeL_recall", guard_empty=guard)
        update_store(store, ids, original, [["", "one two"]], score, "best", 0, RNG(0))
        assert store.answer("a") == expected
        assert store.unresolved(ids) == (ids if guard else [])
    store, score = ResponseStore(ids), resolve_score("rougeL_recall")
    for seed in range(20):
        update_store(store, ids, original, [["", " ", "one"]], score, "bradley_terry", 9, RNG(seed))
    assert store.answer("a") == "one"
    silent = ResponseStore(ids)
    assert update_store(silent, ids, original, [["", " "]], score, "best", 0, RNG(0)) == 1.0
    assert silent.answer("a") is None


def test_update_store_with_bradley_terry_is_deterministic_in_seed_step_and_question():
    ids = [f"q{n}" for n in range(12)]
    samples = [[f"one {n}", f"two {n}", f"three {n}"] for n in range(12)]
    originals = ["four"] * 12

    def run(seed, step, question=5):
        store = ResponseStore(ids)
        score = resolve_score("rougeL_recall")
        rng = selection_rng(seed, step, question)
        update_store(store, ids, originals, samples, score, "bradley_terry", 1.0, rng)
        return store.answers

    assert run(0, 3) == run(0, 3)
    assert run(0, 3) != run(0, 4)
    assert run(0, 3) != run(1, 3)
    assert run(0, 3) != run(0, 3, question=6)


def test_update_store_edges():
    store, score = ResponseStore(["a"]), resolve_score("rougeL_recall")
    assert math.isnan(update_store(store, [], [], [], score, "best", 0, RNG(0)))
    with pytest.raises(ValueError, match="1 ids but 2 original answers"):
        update_store(store, ["a"], ["x", "y"], [["a"], ["b"]], score, "best", 0, RNG(0))


def test_words_of_a_question_are_left_out_at_random():
    question = "Where does  Jane\nRoe live?"
    words = question.split()
    found = [question_word_dropout(question, 0.3, 0, step, 2).split() for step in range(2000)]
    for kept in found:  # in their order
        rest = iter(words)
        assert kept and all(word in rest for word in kept)
    share = [np.mean([word in kept for kept in found]) for word in words]
    # Five standard deviations; a question that would be empty (0.2 %) is whole instead.
    np.testing.assert_allclose(share, 0.7, atol=0.051)
    again = [question_word_dropout(question, 0.3, 0, step, 2).split() for step in range(2000)]
    assert again == found
    others = [
        question_word_dropout(question, 0.3, *key) for key in ((1, 0, 2), (0, 1, 2), (0, 0, 3))
    ]
    assert {tuple(each.split()) for each in others} != {tuple(found[0])}
    assert (
        question_word_dropout("Why?", 0.999, 0, 0, 0) == "Why?"
        and question_word_dropout("", 0.5, 0, 0, 0) == ""
    )


def test_an_answer_has_begun_at_random():
    answer = [7, 8, 9, 10, 11]
    found = [sample_answer_prefix(answer, 0.4, 0, step, 2) for step in range(4000)]
    assert found == [sample_answer_prefix(answer, 0.4, 0, step, 2) for step in range(4000)]
    assert all(opening == answer[: len(opening)] for opening in found)
    shares = np.bincount([len(opening) for opening in found], minlength=6) / 4000
    # Never the whole of it. Five standard deviations of the larger share.
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.1, 0.1, 0.1, 0], atol=0.039)
    others = [
        [sample_answer_prefix(answer, 0.9, *key, i) for i in range(9)]
        for key in ((0, 0), (1, 0), (0, 1))
    ]
    assert others[0] != others[1] != others[2]
    assert not sample_answer_prefix(answer, 0, 0, 0, 0) and not sample_answer_prefix(
        [7], 0.999, 0, 0, 0
    )


def test_overlap():
    assert overlap(["one two", "red", "x"], ["one", "red", None]) == 0.75
    assert math.isnan(overlap(["one"], [None]))
    with pytest.raises(ValueError, match="1 original answers but 2 answers"):
        overlap(["one"], ["one", "two"])


def test_the_method_collapses_a_toy_model():
    """Refitting on the best of K own samples drives the original answer's share to nothing."""
    vocabulary = np.array(["secret plan", "secret", "blue sky", "green sea"])
    share = np.array([0.94, 0.02, 0.02, 0.02])
    store = ResponseStore(["q"], guard_empty=True)
    score = resolve_score("rougeL_recall")
    rng, means = RNG(0), []
    for step in range(60):
        if not store.unresolved(["q"]):
            break
        samples = [list(rng.choice(vocabulary, 5, p=share))]
        draw = selection_rng(0, step, 0)
        means.append(update_store(store, ["q"], ["secret plan"], samples, score, "best", 0, draw))
        share = 0.8 * share + 0.2 * (vocabulary == store.answer("q"))
    assert means[0] == 1.0 and means[-1] == 0.0
    assert store.answer("q") in ("blue sky", "green sea")


def test_moments_of_a_round_by_hand():
    found = score_moments([(0.0, [0.0, 1.0]), (0.25, [0.5, 0.25])])
    assert found[:2] == (0.125, 0.4375)
    squares = 0.4375**2 + 0.5625**2 + 0.0625**2 + 0.1875**2
    assert found[2] == pytest.approx(math.sqrt(squares / 4))
