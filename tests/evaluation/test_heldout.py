"""Retain pairs that are held out of training, and the recall of their answers."""

import pytest

from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.evaluation.heldout import heldout_recall, hold_out

pytestmark = pytest.mark.quick
FORGET = ForgetSet(("f",), ("Where does Jane Roe live?",))


def pairs(count: int, **changed: str) -> RetainSet:
    """Returns pairs; `changed` maps "qN" or "aN" to another question or answer of row N."""
    questions = [changed.get(f"q{i}", f"What is number {i}?") for i in range(count)]
    answers = [changed.get(f"a{i}", f"It is {i}.") for i in range(count)]
    return RetainSet(tuple(f"r:{i}" for i in range(count)), tuple(questions), tuple(answers))


@pytest.mark.parametrize(("count", "expected"), [(39, 0), (40, 8), (44, 8), (45, 9), (100, 20)])
def test_a_fifth_is_held_out_but_not_fewer_than_eight(count, expected):
    rows, why = hold_out(pairs(count), count, FORGET, 0.2, seed=0)
    assert len(rows) == len({*rows}) == expected and list(rows) == sorted(rows)
    assert ("at least 40" in why) == (not expected) and ("data.retain_test_size=0.2" in why) == (
        not expected
    )


def test_the_seed_chooses_and_zero_turns_it_off():
    rows = pairs(60)
    chosen = [hold_out(rows, 60, FORGET, 0.2, seed)[0] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert hold_out(rows, 60, FORGET, 0.0, 0) == ((), "data.retain_test_size is 0")
    assert len(hold_out(pairs(100), 100, FORGET, 0.29, 0)[0]) == 29  # 0.29 * 100 is below 29


def test_a_question_that_training_sees_in_another_row_is_never_held_out():
    last = "WHAT is  number 1?"  # of `data.retain_more`
    rows = pairs(12, q2="what is number 3?", q4="where does jane roe live?", a5="?!", q11=last)
    chosen, _ = hold_out(rows, 11, FORGET, 0.99, seed=0)
    assert not {1, 2, 3, 4, 5, 11} & {*chosen} and not chosen  # five are left, which is too few
    rows = pairs(20, q2="what is number 3?", q4="where does jane roe live?", a5="?!", q19=last)
    chosen, _ = hold_out(rows, 19, FORGET, 0.99, seed=0)
    assert chosen == (0, *range(6, 19))


def test_recall_is_that_of_the_given_answers_without_thoughts():
    rows = pairs(2, a0="Paris on Seine", a1="ten")
    answers = dict(zip(rows.questions, ("<think>Seine</think>Paris", "ten"), strict=True))
    assert heldout_recall(rows, answers, "auto") == pytest.approx((1 / 3 + 1) / 2)
    assert heldout_recall(pairs(0), {}, "auto") is None
