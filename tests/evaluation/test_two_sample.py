"""Two-sample test: identities, and rejections in simulations with known distributions."""

import dataclasses

import numpy as np
import pytest

from pmc_jax.evaluation import two_sample
from pmc_jax.evaluation.two_sample import TwoSample, missing_inputs, two_sample_test, without_power

PLACES = ["Velamora", "Thalivern", "Sarolunda", "Miravia", "Corinova", "Lunomere"]
THINGS = ["copper owls", "cedar larks", "glass moths", "tin swans", "paper geese", "felt toads"]
FORMS = [
    ("{} lives in {}.", PLACES),
    ("The home of {} is a town called {}.", PLACES),
    ("{} collects {}.", THINGS),
    ("In the evenings, {} carves {} for the market.", THINGS),
]
# How often a never-saw model gives the most likely fact, the second most likely fact, and so on.
USUAL = (0.5, 0.2, 0.1, 0.1, 0.05, 0.05)


def answers_of(draw, shares, questions=40):
    """Draws the answers of models: one fact of six per question, ranked alike for all models.

    Args:
        shares: for each model, the probability of each rank.
    """
    ranks = [draw.permutation(6) for _ in range(questions)]
    return [
        [
            form.format(f"Person{i // 4}", facts[ranks[i][draw.choice(6, p=share)]])
            for i, (form, facts) in ((i, FORMS[i % 4]) for i in range(questions))
        ]
        for share in shares
    ]


SHIFTS = {
    "one sentence": lambda i, text: "He lives in a town called Miravia.",
    "abstentions": lambda i, text: ("I don't know if ", "I'm not sure whether ")[i % 2] + text,
    "longer": lambda i, text: f"{text} {text}",
    "some": lambda i, text: text if i % 4 else "I don't know.",
    "own facts": lambda i, text: f"{text.rsplit(' ', 1)[0]} {'abcdefghij'[i % 10] * 3}{i}.",
}


def result(seed, shift=None, shares=(USUAL,) * 6):
    answers, *never_saw = answers_of(np.random.default_rng(seed), shares)
    if shift is not None:
        answers = [SHIFTS[shift](i, text) for i, text in enumerate(answers)]
    return two_sample_test(answers, never_saw, seed=seed)


def test_same_answers_are_not_told_apart():
    answers = answers_of(np.random.default_rng(0), [USUAL])[0]
    same = two_sample_test(answers, [answers] * 5, seed=0)
    assert same == TwoSample(0.0, (0.0,) * 5, 0.5, (0.5,) * 5, 1.0, 40)
    assert same.inside and not same.told_apart


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifted_answers_are_told_apart(shift):
    one = result(0, shift)
    assert one.p < 0.01 and one.told_apart
    assert one.distance > max(one.distance_spread)


def test_least_likely_answers_are_told_apart():
    """A model that says what never-saw models hardly ever say, in the same sentences."""
    one = result(0, shares=((0, 0, 0, 0, 0.5, 0.5), *(USUAL,) * 5))
    assert one.told_apart and one.auc > max(one.auc_spread)


def test_true_answers_show_a_model_that_avoids_them():
    """Models that never agree differ only in how often they say the first word of the truth."""
    draw = np.random.default_rng(0)
    truths = [f"true{i} fact{i}" for i in range(40)]

    def texts(share):
        first = [f"true{i}" if draw.random() < share else f"some{i}" for i in range(40)]
        return [f"{word} {''.join(draw.choice([*'bcdfgh'], 8))}" for word in first]

    answers, never_saw = texts(0.05), [texts(0.5) for _ in range(5)]
    blind = two_sample_test(answers, never_saw, seed=0)
    one = two_sample_test(answers, never_saw, seed=0, truths=truths)
    assert one.told_apart and one.p <= blind.p and one.distance > blind.distance


def test_result_repeats_and_does_not_depend_on_the_order_of_the_models():
    answers, *never_saw = answers_of(np.random.default_rng(3), [USUAL] * 6)
    one = two_sample_test(answers, never_saw, seed=1)
    assert two_sample_test(answers, never_saw, seed=1) == one
    other = two_sample_test(answers, never_saw[::-1], seed=1)
    assert other.distance == pytest.approx(one.distance, abs=1e-12)
    assert other.auc == pytest.approx(one.auc, abs=1e-12)
    assert other.distance_spread == pytest.approx(one.distance_spread[::-1], abs=1e-12)
    assert other.auc_spread == pytest.approx(one.auc_spread[::-1], abs=1e-12)


def test_statistics_are_unbiased_under_permutations():
    answers = answers_of(np.random.default_rng(4), [USUAL] * 6)
    answers[0] = [SHIFTS["some"](i, text) for i, text in enumerate(answers[0])]
    models = [[two_sample._Answer(text, 0.0) for text in texts] for texts in answers]
    distance, auc = two_sample._statistics(models, 10_000, seed=0)
    for values, mean in ((distance, 0.0), (auc, 0.5)):
        error = values[1:].std() / np.sqrt(10_000)
        assert abs(values[1:].mean() - mean) < 4 * error


def test_distance_by_hand(monkeypatch):
    """The average over pairs of different questions of the products of differences."""
    draw, n, m = np.random.default_rng(0), 5, 4
    x = draw.standard_normal((n, m, 3))
    flat = x.reshape(n * m, 3)
    centred = (x - x.mean(1, keepdims=True)).reshape(n * m, 3)
    inner = two_sample._centred(flat @ flat.T, n)
    np.testing.assert_allclose(inner, centred @ centred.T, atol=1e-12)
    monkeypatch.setattr(two_sample, "_inner_products", lambda answers, n: inner)
    distance, _ = two_sample._statistics([[None] * n] * m, 0, seed=0)
    differences = x[:, 0] - x[:, 1:].mean(1)
    pairs = [differences[i] @ differences[j] for i in range(n) for j in range(n) if i != j]
    assert distance[0] == pytest.approx(np.mean(pairs), rel=1e-12)


def test_classifier_is_a_ridge_regression_on_other_questions():
    draw, n, m = np.random.default_rng(0), 20, 3
    x, labels = draw.standard_normal((n * m, 4)), draw.standard_normal(n * m)
    scores = two_sample._classifier(x @ x.T, n) @ labels
    ridge = two_sample._RIDGE * (x**2).sum(1).mean()
    held = np.arange(2 * m)  # two of 20 questions in each of ten folds
    train = np.arange(2 * m, n * m)
    weights = np.linalg.solve(x[train].T @ x[train] + ridge * np.eye(4), x[train].T @ labels[train])
    np.testing.assert_allclose(scores[held], x[held] @ weights, atol=1e-12)


def test_cosines_by_hand():
    cosines = two_sample._cosines([["a", "a", "b"], ["a", "c"], []])
    a = 1 + np.log(4 / 3)  # in two of three texts
    b = c = 1 + np.log(4 / 2)
    first, second = np.array([(1 + np.log(2)) * a, b, 0]), np.array([a, 0, c])
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    np.testing.assert_allclose(cosines, [[1, expected, 0], [expected, 1, 0], [0, 0, 0]], atol=1e-12)


def test_p_values_count_equal_numbers():
    np.testing.assert_allclose(
        two_sample._p_values(np.array([3.0, 1.0, 3.0, 2.0])), [0.5, 1.0, 0.5, 0.75]
    )


def test_scripts_without_spaces_and_empty_answers():
    draw = np.random.default_rng(0)
    cities = ["北京", "上海", "广州", "成都"]
    models = [[f"她住在{draw.choice(cities)}。" for _ in range(40)] for _ in range(6)]
    assert not two_sample_test(models[0], models[1:], seed=0).told_apart
    unknown = [f"我不知道她住在{draw.choice(cities)}。" for _ in range(40)]
    assert two_sample_test(unknown, models[1:], seed=0).told_apart
    assert two_sample_test([""] * 40, models[1:], seed=0).told_apart


def test_missing_inputs_and_power():
    assert missing_inputs(40, 5) == ""
    assert "at least 40 questions" in missing_inputs(39, 5) and "has 39" in missing_inputs(39, 5)
    assert "at least 5 models" in missing_inputs(40, 4) and "has 4;" in missing_inputs(40, 4)
    seen = TwoSample(1.0, (0.0,) * 5, 0.9, (0.5,) * 5, 0.001, 40)
    assert without_power({"target": seen}) == ""
    unseen = dataclasses.replace(seen, p=0.25)
    # A small p alone does not count, because never-saw models differ from each other as much.
    habit = dataclasses.replace(seen, distance_spread=(2.0,) * 5, auc_spread=(0.95,) * 5)
    assert without_power({"target": seen, "IDK": unseen, "own": habit}) == (
        "no power: the test does not tell IDK (p = 0.25), own (p = 0.001) apart"
    )


@pytest.mark.slow
def test_rate_of_false_rejections():
    """Equal distributions are rejected at the nominal rate (binomial 99.9 % bounds)."""
    results = [result(seed) for seed in range(60)]
    p = np.array([one.p for one in results])
    assert np.sum(p < 0.05) <= 9  # expected 3
    assert np.sum(p < 0.5) == pytest.approx(30, abs=13)
    # Chance for each statistic is 1 / 6, and the statistics depend on each other.
    assert 0.6 < np.mean([one.inside for one in results]) < 0.95
    assert sum(one.told_apart for one in results) <= 3  # at most 0.6 expected


@pytest.mark.slow
def test_habits_of_models_do_not_count_as_knowledge():
    """Models with different habits: p is too small, and the spread corrects the verdict."""
    results = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        weights = draw.dirichlet([1, 1], size=6)
        shares = [w * np.array(USUAL) + v * np.full(6, 1 / 6) for w, v in weights]
        results.append(result(seed, shares=shares))
    assert np.mean([one.told_apart for one in results]) <= 0.2
