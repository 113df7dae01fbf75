"""The algorithm's host side: selection, the plan of steps, and a round of the store."""

import functools
import itertools
import math

import numpy as np
import pytest
import tiny_runs as tiny
from scipy import stats

from pmc_jax.commands import unlearning_run
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.training.order import (
    epoch_order,
    epoch_rows,
    focused,
    plan_steps,
    total_steps,
)
from pmc_jax.unlearning import pmc_source
from pmc_jax.unlearning.extensions import (
    question_word_dropout,
    run_attempts,
    sample_answer_prefix,
)
from pmc_jax.unlearning.metrics import overlap, score_moments
from pmc_jax.unlearning.pmc import (
    Rollout,
    Selection,
    original_answers,
    run_round,
    select_index,
    step_rows,
)
from pmc_jax.unlearning.store import ReplacementStore

RNG = np.random.default_rng


def test_best_is_the_first_lowest_and_draws_nothing():
    rng = RNG(0)
    assert select_index(np.array([0.5, 0.1, 0.1, 0.9]), "best", 0.1, rng) == 1
    assert select_index(np.array([0.5, 0.1, 0.1, 0.9]), "bradley_terry", 0.0, rng) == 1
    assert rng.bit_generator.state == RNG(0).bit_generator.state


def test_bradley_terry_frequencies():
    scores, tau, draws = np.array([0.0, 0.2, 0.2, 0.7, 1.0]), 0.4, 4000
    reward = 1 - scores
    expected = np.exp(reward / tau) / np.exp(reward / tau).sum()
    rng = RNG(1)
    counts = np.bincount(
        [select_index(scores, "bradley_terry", tau, rng) for _ in range(draws)], minlength=5
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
    assert {select_index(scores, "bradley_terry", tau, rng) for _ in range(50)} == {2}


def test_bradley_terry_with_a_large_tau_is_uniform():
    rng = RNG(3)
    counts = np.bincount(
        [select_index(np.arange(4), "bradley_terry", 1e9, rng) for _ in range(2000)]
    )
    assert stats.chisquare(counts).pvalue > 0.01


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
    steps = list(plan_steps(10, 7, 4, 3, seed=5))
    assert [step.index for step in steps] == list(range(8))
    assert [step.epoch for step in steps] == [0, 0, 0, 1, 1, 2, 2, 2]
    orders = np.concatenate([epoch_order(10, epoch, 5) for epoch in range(4)])
    np.testing.assert_array_equal(np.concatenate([s.forget for s in steps]), orders[:32])
    for step in steps:
        assert step.forget.shape == step.retain.shape == (4,)
        assert step.retain.min() >= 0 and step.retain.max() < 7


def test_a_step_of_more_rows_than_questions_holds_several_epochs():
    (step,) = plan_steps(3, 5, 8, 1, seed=0)
    orders = np.concatenate([epoch_order(3, epoch, 0) for epoch in range(3)])
    np.testing.assert_array_equal(step.forget, orders[:8])
    np.testing.assert_array_equal(epoch_rows(3, 8, 0, 0), orders[:8])


def test_plan_retain_rows_are_uniform_with_replacement():
    draws = np.concatenate([step.retain for step in plan_steps(100, 10, 20, 40, seed=0)])
    assert len(draws) == 4000
    assert stats.chisquare(np.bincount(draws, minlength=10)).pvalue > 0.01
    assert any(len(set(step.retain)) < 20 for step in plan_steps(100, 50, 20, 1, seed=0))


def test_retain_rows_are_drawn_with_the_given_shares():
    shares = np.array([0.4, 0.1, 0.1, 0.1, 0.3])
    steps = plan_steps(100, 5, 20, 40, seed=0, retain_rows=3, retain_shares=shares)
    draws = np.bincount(np.concatenate([step.retain for step in steps]), minlength=5)
    assert stats.chisquare(draws, 12000 * shares).pvalue > 0.01


def test_focus_replaces_a_share_of_the_forget_rows():
    steps = list(plan_steps(50, 10, 8, 40, seed=0, retain_rows=2))
    kept, replaced = 0, []
    for step in steps:
        assert focused(step, [], 1.0, 0) is step
        assert (focused(step, [3, 7], 0.0, 0).forget == step.forget).all()
        new = focused(step, [3, 7], 0.25, 0)
        assert (new.index, new.epoch) == (step.index, step.epoch) and new.retain is step.retain
        np.testing.assert_array_equal(new.forget, focused(step, [3, 7], 0.25, 0).forget)
        is_kept = new.forget == step.forget
        kept += is_kept.sum()
        replaced += list(new.forget[~is_kept])
        assert set(focused(step, [3, 7], 1.0, 0).forget) <= {3, 7}
    rows = 8 * len(steps)
    # Some rows are replaced with themselves: the two questions are 2 of 50.
    assert stats.binomtest(int(kept), rows, 0.75 + 0.25 / 50).pvalue > 0.01
    assert stats.chisquare([replaced.count(3), replaced.count(7)]).pvalue > 0.01


@pytest.mark.parametrize("start", [0, 1, 3, 4, 7, 8])
def test_plan_resumes_with_the_same_steps(start):
    whole = list(plan_steps(10, 7, 4, 3, seed=5))[start:]
    resumed = list(plan_steps(10, 7, 4, 3, seed=5, start=start))
    assert len(whole) == len(resumed)
    for one, other in zip(whole, resumed, strict=True):
        assert (one.epoch, one.index) == (other.epoch, other.index)
        np.testing.assert_array_equal(one.forget, other.forget)
        np.testing.assert_array_equal(one.retain, other.retain)


def test_plan_depends_on_the_seed():
    first, second = (next(plan_steps(50, 50, 8, 1, seed=seed)) for seed in (0, 1))
    assert list(first.forget) != list(second.forget)
    assert list(first.retain) != list(second.retain)


IDS = ("a", "b", "c")
ORIGINALS = {"a": "one two three four", "b": "red green", "c": "four"}
RETAIN = RetainSet(("r",), ("Who?",), ("Nobody.",))


def play(store, samples, questions=IDS, *, originals=ORIGINALS, seed=0, step=0, **settings):
    """One round whose samples are given: id -> texts; the selections."""
    settings = {"threshold": 0.0, "prefer": "first", "max_perplexity": None, **settings}
    settings = {"private_words": True, **settings}
    settings = {"min_words": 0, "max_repetition": 1.0, "guard_empty": store.guard_empty, **settings}
    texts = list(originals.values())
    pmc = tiny.pmc_config(**settings)
    forget = ForgetSet(tuple(originals), tuple(texts))
    selector = tiny.selector(pmc, forget, texts, RETAIN, seed=seed)

    def sample(ids, score_and_select):
        rollouts = {id_: _rollout(samples[id_]) for id_ in ids}
        return [score_and_select(id_, rollout) for id_, rollout in rollouts.items()]

    select = functools.partial(selector.select, draw=(step,))
    return run_round(
        store, questions, originals, sample=sample, score=selector.score, select=select
    )


def _rollout(texts):
    whole = np.ones(len(texts), bool)
    return Rollout(texts, np.full(len(texts), 3), np.ones(len(texts)), whole, whole)


def test_a_round_keeps_the_best_sample_of_each_question():
    store = ReplacementStore(IDS)
    samples = {"a": ["one two", "one", "one x"], "b": ["red green", "red", "green"]}
    found = play(store, samples, ["a", "b", "a"])
    assert [(s.question, s.answer, s.score) for s in found] == [
        ("a", "one", 0.25),
        ("b", "red", 0.5),
    ]
    assert found[1].scores == [1.0, 0.5, 0.5]
    assert store.replacements == {"a": ("one", 0.25), "b": ("red", 0.5), "c": (None, math.inf)}
    # Worse samples are selected but do not replace; a question with score 0 is sampled no more.
    again = {"a": ["one two three"] * 3, "b": ["blue", "red", "green"]}
    assert [s.score for s in play(store, again, ["a", "b"])] == [0.75, 0]
    assert [store.answer(id_) for id_ in IDS] == ["one", "blue", None]
    assert store.unreplaced(IDS) == ["a", "c"]
    assert [s.question for s in play(store, again, ["a", "b"])] == ["a"]
    assert play(store, {}, []) == []


def test_an_empty_sample_wins_only_without_the_guard():
    original = {"a": "one two"}
    for guard, expected in ((True, "one two"), (False, "")):
        store = ReplacementStore(["a"], guard_empty=guard)
        play(store, {"a": ["", "one two"]}, ["a"], originals=original)
        assert store.answer("a") == expected
        assert store.unreplaced(["a"]) == (["a"] if guard else [])
    store = ReplacementStore(["a"])
    for seed in range(20):
        samples = {"a": ["", " ", "one"]}
        play(store, samples, ["a"], originals=original, seed=seed, rule="bradley_terry", tau=9.0)
    assert store.answer("a") == "one"
    silent = ReplacementStore(["a"])
    assert play(silent, {"a": ["", " "]}, ["a"], originals=original)[0].score == 1.0
    assert silent.answer("a") is None


def test_a_bradley_terry_round_depends_on_seed_step_and_question_alone():
    ids = [f"q{n}" for n in range(12)]
    samples = {f"q{n}": [f"one {n}", f"two {n}", f"three {n}"] for n in range(12)}

    def answers(seed, step, questions=ids):
        store = ReplacementStore(ids)
        settings = {"originals": dict.fromkeys(ids, "four"), "seed": seed, "step": step}
        play(store, samples, questions, **settings, rule="bradley_terry", tau=1.0)
        return [store.answer(id_) for id_ in ids]

    assert answers(0, 3) == answers(0, 3, ids[::-1])
    assert answers(0, 3) != answers(0, 4)
    assert answers(0, 3) != answers(1, 3)
    picks = [text.split()[0] for text in answers(0, 3)]
    assert len(set(picks)) > 1


def test_attempts_go_on_until_an_answer_is_good_enough():
    store, asked = ReplacementStore(IDS), []

    def one_round(questions, attempt):
        asked.append((list(questions), attempt))
        found = [Selection(q, "x", 0.5 - 0.2 * attempt, [0.5]) for q in questions]
        for selection in found:
            store.offer(selection.question, selection.answer, selection.score)
        store.offer("a", "y", 0.0)
        return found

    options = dict(max_attempts=5, good_enough=0.3)
    assert len(run_attempts(store, ["a", "b"], one_round, **options)) == 3
    assert asked == [(["a", "b"], 0), (["b"], 1)]
    assert run_attempts(store, [], one_round, **options) == []


def test_original_answers_are_in_the_order_of_the_questions():
    assert original_answers(["b", "a"], lambda q: {"a": "1", "b": "2"}) == ["2", "1"]


def test_the_rows_of_a_step_are_stored_answers_and_retain_pairs():
    store = ReplacementStore(IDS)
    store.offer("a", "x", 0.2)
    store.offer("c", "y", 0.6)
    step = next(plan_steps(3, 5, 3, 1, seed=0, retain_rows=2))
    rows = step_rows(
        step,
        store,
        ids=IDS,
        encode=lambda index, step: (IDS[index], step),
        retain=list("vwxyz"),
        max_train_score=0.5,
    )
    assert rows["collapse"].sequences == [(IDS[i], 0) for i in step.forget]
    weights = dict(zip(step.forget.tolist(), rows["collapse"].weights, strict=True))
    assert weights == {0: 1.0, 1: 0.0, 2: 0.0}
    assert rows["retain"].sequences == ["vwxyz"[i] for i in step.retain]
    assert len(step.retain) == 6 and rows["retain"].weights is None


def test_a_real_run_goes_through_the_algorithm(tmp_path, monkeypatch):
    """`original_answers` once, `run_round` in every round that samples, `step_rows` every step."""
    modules = {"original_answers": unlearning_run, "run_round": pmc_source, "step_rows": pmc_source}
    calls = dict.fromkeys(modules, 0)

    def counted(name):
        function = getattr(modules[name], name)

        def call(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return call

    for name in calls:
        monkeypatch.setattr(modules[name], name, counted(name))
    run = tiny.run(tmp_path, pmc={"num_samples": 3, "epochs": 3, "max_new_tokens": 8})
    rounds = tiny.results(run.out)["rounds"]
    sampled = sum(bool(one["sampled_questions"]) for one in rounds)
    steps = rounds[-1]["step"]
    assert calls == {"original_answers": 1, "run_round": sampled, "step_rows": steps}
    assert sampled > 1


def test_words_of_a_question_are_left_out_at_random():
    question = "Where does  Jane\nRoe live?"
    words = question.split()
    found = [question_word_dropout(question, 0.3, 0, step, 2).split() for step in range(2000)]
    for kept in found:  # in their order
        rest = iter(words)
        assert kept and all(word in rest for word in kept)
    share = [np.mean([word in kept for kept in found]) for word in words]
    # Half of the questions are whole. Five standard deviations; a question that would be empty
    # (0.1 %) is whole instead.
    np.testing.assert_allclose(share, 0.85, atol=0.041)
    assert 0.5 < np.mean([kept == words for kept in found]) < 0.65
    again = [question_word_dropout(question, 0.3, 0, step, 2).split() for step in range(2000)]
    assert again == found
    for seed, index in ((1, 2), (0, 3)):
        other = [
            question_word_dropout(question, 0.3, seed, step, index).split() for step in range(9)
        ]
        assert other != found[:9]
    assert (
        question_word_dropout("Why?", 0.999, 0, 0, 0) == "Why?"
        and question_word_dropout("", 0.5, 0, 0, 0) == ""
    )


def test_words_of_a_subject_are_never_left_out():
    question = "Does 'Jane  Roe' know Al?"
    found = {
        tuple(
            question_word_dropout(question, 0.9, 0, step, 2, subjects=("Jane  Roe", "Al")).split()
        )
        for step in range(100)
    }
    assert ("'Jane", "Roe'", "Al?") in found
    assert all({"'Jane", "Roe'", "Al?"} <= set(words) for words in found)


def test_an_answer_has_begun_at_random():
    answer = "She lives in  Porto, 東京."
    found = [sample_answer_prefix(answer, 0.4, 0, step, 2) for step in range(4000)]
    assert found == [sample_answer_prefix(answer, 0.4, 0, step, 2) for step in range(4000)]
    prefixes = ["", "She ", "She lives ", "She lives in  ", "She lives in  Porto, "]
    prefixes += ["She lives in  Porto, 東", "She lives in  Porto, 東京"]
    assert {*found} == {*prefixes}
    shares = [found.count(prefix) / 4000 for prefix in prefixes]
    # Five standard deviations of the largest share.
    np.testing.assert_allclose(shares, [0.6, *[0.4 / 6] * 6], atol=0.039)
    others = [
        [sample_answer_prefix(answer, 0.9, *key, i) for i in range(9)]
        for key in ((0, 0), (1, 0), (0, 1))
    ]
    assert others[0] != others[1] != others[2]
    assert not sample_answer_prefix(answer, 0, 0, 0, 0) and not sample_answer_prefix(
        "Porto", 0.999, 0, 0, 0
    )


def test_the_method_collapses_a_toy_model():
    """Refitting on the best of K own samples drives the original answer's share to nothing."""
    vocabulary = np.array(["secret plan", "secret", "blue sky", "green sea"])
    share = np.array([0.94, 0.02, 0.02, 0.02])
    store = ReplacementStore(["q"], guard_empty=True)
    rng, means = RNG(0), []
    for step in range(60):
        if not store.unreplaced(["q"]):
            break
        samples = {"q": list(rng.choice(vocabulary, 5, p=share))}
        (found,) = play(store, samples, ["q"], originals={"q": "secret plan"}, step=step)
        means.append(found.score)
        share = 0.8 * share + 0.2 * (vocabulary == store.answer("q"))
    assert means[0] == 1.0 and means[-1] == 0.0
    assert store.answer("q") in ("blue sky", "green sea")


def test_moments_of_a_round_by_hand():
    selections = [Selection("a", "x", 0.0, [0.0, 1.0]), Selection("b", "y", 0.25, [0.5, 0.25])]
    found = score_moments(selections)
    assert (found["sampled_score"], found["score_mean"]) == (0.125, 0.4375)
    squares = 0.4375**2 + 0.5625**2 + 0.0625**2 + 0.1875**2
    assert found["score_std"] == pytest.approx(math.sqrt(squares / 4))
    assert found["sampled_questions"] == 2
    assert score_moments([])["sampled_score"] is None


def test_overlap():
    originals = {"a": "one two", "b": "red", "c": "x"}
    assert overlap(originals, {"a": ("one", 0.5), "b": ("red", 1.0), "c": (None, math.inf)}) == 0.75
    assert math.isnan(overlap(originals, {}))
