"""Holds some retain pairs out of training, and measures how many of their answers the model keeps.

The recall on these pairs shows what unlearning costs: the model knew their answers before, and no
step has repeated the answers.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.thoughts import answer_of
from pmc_jax.data.visible import appearance
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.scoring.words import RULES, rule_for

MIN_ROWS = 8


def hold_out(
    retain: RetainSet, num_given: int, forget: ForgetSet, share: float, seed: int
) -> tuple[tuple[int, ...], str]:
    """Chooses the retain pairs on which a run does not train.

    A pair whose question occurs again in the retain pairs or is a forget question is not chosen,
    because the run would train on that question. A pair whose answer has no word is not chosen,
    because no recall can be computed.

    Args:
        retain: all retain pairs.
        num_given: number of pairs of `data.retain`, which come first. Only these may be chosen.
        forget: forget questions.
        share: share of these pairs to choose, from 0 to below 1; rounded down to a number of pairs.
        seed: seed of the choice.

    Returns:
        The indices of the chosen pairs in ascending order, and the reason if there are none.
    """
    if not share:
        return (), "data.retain_test_size is 0"
    count = math.floor(round(share * num_given, 6))
    looks = [appearance(question) for question in retain.questions]
    times = Counter([*looks, *map(appearance, forget.questions)])
    usable = [
        i
        for i in range(num_given)
        if times[looks[i]] == 1 and all(rule(retain.answers[i]) for rule in RULES.values())
    ]
    count = min(count, len(usable))
    if count < MIN_ROWS:
        need = math.ceil(round(MIN_ROWS / share, 6))
        return (), (
            f"data.retain has {num_given} rows, and at least {need} with different questions are "
            f"needed to hold out {MIN_ROWS} of them (data.retain_test_size={share:g})"
        )
    chosen = np.random.default_rng([seed, num_given]).choice(usable, count, replace=False)
    return tuple(sorted(map(int, chosen))), ""


def heldout_recall(rows: RetainSet, answers: Mapping[str, str], words: str) -> float | None:
    """Returns the mean ROUGE-L recall of the given answers in answers of the model, in [0, 1].

    Thoughts do not count as part of an answer. The result is None if there are no rows.

    Args:
        rows: held-out pairs.
        answers: question -> greedy answer of the model.
        words: setting `data.words`.
    """
    if not len(rows):
        return None
    rule = RULES[rule_for(words, rows.answers)]
    pairs = zip(rows.questions, rows.answers, strict=True)
    return float(np.mean([rougeL_recall(t, answer_of(answers[q]), rule) for q, t in pairs]))


def cost_of(
    rows: RetainSet, why_not: str, before: float | None, after: float | None
) -> dict[str, Any]:
    """Returns what unlearning cost on the held-out pairs, as JSON values.

    Args:
        rows: held-out pairs.
        why_not: reason why there are none, or "".
        before, after: recall before and after unlearning (see `heldout_recall`).

    Returns:
        A dictionary with the number of `rows`, the recalls `before` and `after` in [0, 1], and
        the reason `not_measured`. Recalls and reason are None where they do not apply.
    """
    cost: dict[str, Any] = {"rows": len(rows), "before": before, "after": after}
    return cost | {"not_measured": why_not or None}
