"""What measures share: the words for what is absent, and a last look at their numbers."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import Description, Result

NOT_FINITE = "the model's numbers are not finite"


def not_given(split: str) -> str:
    """Why a number of a split is missing whose rows are."""
    return f"data.evaluate.{split} is not given"


def mean_loss(text: Mapping[str, Any]) -> float:
    """Mean loss of a text's tokens in nats, the end token included.

    Args:
        text: a T of `record`.
    """
    return -float(np.mean(text["logp"]))


def diverged(rows: Mapping[str, Any]) -> bool:
    """Whether log-probabilities of "likelihood" rows are no numbers.

    Numbers that come from comparisons would not show it.
    """
    return not all(
        np.all(np.isfinite(text["logp"]))
        for row in rows.values()
        for text in (row["answer"], row["paraphrased"], *(row["wrong"] or ()))
        if text
    )


def checked(result: Result, descriptions: Mapping[str, Description]) -> Result:
    """The result without numbers that are not finite, as those of a model that diverged.

    Args:
        descriptions: of all names that the measure may return.
    """
    assert set(result.values) | set(result.missing) <= set(descriptions), (
        "a number has no description"
    )
    values = {n: float(v) for n, v in result.values.items() if math.isfinite(v)}
    lost = {n: NOT_FINITE for n in result.values if n not in values}
    series = {n: s for n, s in result.series.items() if np.all(np.isfinite(s))}
    return Result(values, {**result.missing, **lost}, series)
