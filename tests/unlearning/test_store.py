"""The replacement answers: what is sampled, what replaces what, and the JSON round trip."""

import json
import math

import numpy as np
import pytest

from pmc_jax.errors import UserError
from pmc_jax.unlearning.store import ReplacementStore

IDS = ("q3", "q1", "q2")


def test_starts_unresolved_in_the_given_order():
    store = ReplacementStore(IDS)
    assert store.unreplaced(IDS) == ["q3", "q1", "q2"]
    assert list(store.replacements.items()) == [(id_, (None, math.inf)) for id_ in IDS]
    assert math.isnan(store.mean_score())


def test_better_and_equal_answers_replace_worse_ones_do_not():
    store = ReplacementStore(IDS)
    assert store.offer("q1", "first", 0.5)
    assert not store.offer("q1", "worse", 0.6)
    assert (store.answer("q1"), store.score("q1")) == ("first", 0.5)
    assert store.offer("q1", "tie", 0.5)
    assert store.answer("q1") == "tie"
    assert store.offer("q1", "better", 0.25)
    assert (store.answer("q1"), store.score("q1")) == ("better", 0.25)


def test_zero_resolves_and_nothing_else_does():
    store = ReplacementStore(IDS)
    store.offer("q1", "done", 0.0)
    store.offer("q2", "nearly", 1e-9)
    assert store.unreplaced(["q2", "q1", "q3", "q2"]) == ["q2", "q3"]
    assert store.mean_score() == 1e-9 / 2
    only = ReplacementStore(["q1"])
    only.offer("q1", "done", 0.0)
    assert only.mean_score() == 0.0


def test_guard_refuses_empty_answers_and_the_reference_freezes_them():
    guarded = ReplacementStore(IDS, guard_empty=True)
    guarded.offer("q2", "text", 1.0)
    assert not guarded.offer("q1", " \n", 0.0)
    assert not guarded.offer("q2", "", 0.0)
    assert guarded.replacements == {
        "q3": (None, math.inf),
        "q1": (None, math.inf),
        "q2": ("text", 1.0),
    }
    assert guarded.unreplaced(IDS) == list(IDS)
    reference = ReplacementStore(IDS, guard_empty=False)
    assert reference.offer("q1", "", 0.0)
    assert reference.answer("q1") == ""
    assert reference.unreplaced(IDS) == ["q3", "q2"]


def test_weights():
    store = ReplacementStore(IDS)
    store.offer("q3", "a", 0.75)
    store.offer("q1", "b", 0.5)
    weights = store.trainable(["q3", "q1", "q2", "q3"])
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [1, 1, 0, 1])
    np.testing.assert_array_equal(store.trainable(IDS, 0.5), [0, 1, 0])
    np.testing.assert_array_equal(store.trainable(IDS, 0.0), [0, 0, 0])


def test_json_round_trip():
    store = ReplacementStore(IDS, guard_empty=False)
    store.offer("q3", "Zürich", 1 / 3)
    store.offer("q1", "", 0.0)
    text = json.dumps(store.state_dict(), allow_nan=False)
    copy = ReplacementStore(IDS)
    copy.load_state_dict(json.loads(text))
    assert copy.state_dict() == store.state_dict()
    stored = {"q3": ("Zürich", 1 / 3), "q1": ("", 0.0), "q2": (None, math.inf)}
    assert copy.replacements == stored
    assert copy.guard_empty is False
    copy.offer("q2", "x", 0.5)
    assert store.answer("q2") is None


def test_rejects_bad_input():
    with pytest.raises(ValueError, match="is repeated"):
        ReplacementStore(["a", "a"])
    store = ReplacementStore(IDS)
    with pytest.raises(ValueError, match="question 'q1' must be finite"):
        store.offer("q1", "x", math.nan)
    with pytest.raises(KeyError):
        store.offer("unknown", "x", 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ["a"]}, "damaged"),
        ({"ids": ["q3", "q3", "q2"]}, "damaged"),
        ({"scores": [0.5, None, None]}, "to question 'q3' in the checkpoint is damaged"),
    ],
)
def test_rejects_a_damaged_or_foreign_checkpoint(change, message):
    saved = ReplacementStore(IDS).state_dict()
    with pytest.raises(UserError, match=message):
        ReplacementStore(IDS).load_state_dict({**saved, **change})
    with pytest.raises(UserError, match="differ from the 2 questions"):
        ReplacementStore(["q3", "q1"]).load_state_dict(saved)
