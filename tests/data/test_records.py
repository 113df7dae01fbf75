"""Records built in code, and what they refuse."""

import pytest
from tiny_runs import fault

from pmc_jax.data import sets
from pmc_jax.data.records import EvalSet, ForgetSet, RetainSet


def test_sets_given_in_code():
    assert sets.questions_to_forget(["a", "b"]) == ForgetSet(
        ("question:0", "question:1"), ("a", "b")
    )
    assert sets.pairs_to_retain([("a", "b")]) == RetainSet(("pair:0",), ("a",), ("b",))
    assert "forget: the source has no rows" in fault(sets.questions_to_forget, [])
    assert "is one string" in fault(sets.questions_to_forget, "Who?")
    assert "row 1 (counted from 0): the value in column 'question' is empty" in fault(
        sets.questions_to_forget, ["a", " "]
    )
    assert "column 'answer' is null" in fault(sets.pairs_to_retain, [("a", None)])
    assert "row 0 (counted from 0): the row is not a (question, answer) pair" in fault(
        sets.pairs_to_retain, ["ab"]
    )


def test_records_refuse_what_does_not_fit():
    assert "differ in length" in fault(ForgetSet, ("a",), ())
    assert "'a' is used more than once" in fault(ForgetSet, ("a", "a"), ("q", "r"))
    assert "'questions' is not a tuple of str. Pass" in fault(ForgetSet, ("a",), ["q"])
    assert "'answers' is not a tuple of str. Pass" in fault(RetainSet, ("a",), ("q",), (None,))
    wrong = fault(EvalSet, "forget", ("a",), ("q",), ("s",), None, ("t",))
    assert "'wrong' is not a tuple of tuples of str. Pass a tuple of tuples of str." in wrong
    rows = EvalSet("forget", ("a", "b"), ("q", "r"), ("s", "t"))
    assert rows.select([1]) == EvalSet("forget", ("b",), ("r",), ("t",))
    assert len(rows) == 2 and len(rows.select([])) == 0
    with pytest.raises(IndexError):
        rows.select([2])
