"""Measures how unlearning changes the likelihood of forget-answer tokens in unrelated text.

The change at a position of unrelated text is the probability of its token under this model minus
the probability under another model. The other model is the reference model, which never saw the
forget rows, or the model before unlearning. The measure compares positions whose token occurs in a
forget answer ("forget") with all other positions ("other"):

    mean, deviation, smallest    Mean, standard deviation and minimum of the changes.
    low, high                    1 % and 99 % quantiles of the changes.
    dropped                      Share of positions with a change below -0.1.

Without side effects, both groups have the same distribution, with a mean near 0 and no tail.

Reference: Scholten et al., ICLR 2026, arXiv 2507.04219 (side effects).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import (
    NO_BEFORE,
    NO_REFERENCE,
    NO_TEXT,
    NOT_FINITE,
    Description,
    Result,
)
from pmc_jax.evaluation.rows import Rows

DROP = 0.1
BINS = 41
_MODELS = {"reference": "against the reference", "before": "against the model before"}
_TOKENS = {"forget": "words of forget answers", "other": "other words"}
_NUMBERS = {
    "mean": ("{}: mean change of probability", ""),
    "deviation": ("{}: spread of the change", "lower"),
    "low": ("{}: 1 % quantile of the change", "higher"),
    "high": ("{}: 99 % quantile of the change", ""),
    "smallest": ("{}: most negative change", "higher"),
    "dropped": ("{}: share of positions with a drop above 0.1", "lower"),
}
DESCRIPTIONS = {
    f"{model}.{tokens}.{number}": Description(
        f"{text.format(_TOKENS[tokens])}, {_MODELS[model]}",
        better,
        "share" if number == "dropped" else "",
    )
    for model in _MODELS
    for tokens in _TOKENS
    for number, (text, better) in _NUMBERS.items()
}


def describe(changes: np.ndarray) -> dict[str, float]:
    """Computes all numbers (see the module docstring) for one group of positions.

    Args:
        changes: float [positions], changes of probability; at least one position.
    """
    low, high = np.quantile(changes, [0.01, 0.99])
    return {
        "mean": changes.mean(),
        "deviation": changes.std(),
        "low": low,
        "high": high,
        "smallest": changes.min(),
        "dropped": np.mean(changes < -DROP),
    }


def summarise(own: Rows, reference: Rows | None, before: Rows | None, *_: Any) -> Result:
    """Compares the model with the reference model and with the model before unlearning."""
    numbers: dict[str, float | str] = {}
    series = {}
    text = own.get("text", {})
    others = (("reference", reference, NO_REFERENCE), ("before", before, NO_BEFORE))
    for model, other, reason in others:
        changes = {} if other is None else _changes(text, other.get("text", {}))
        if other is not None:
            reason = "the other model tokenises the text differently" if text else NO_TEXT
        for tokens, words in _TOKENS.items():
            group = changes.get(tokens, np.empty(0))
            if len(group) and np.isfinite(group).all():
                described = describe(group)
                histogram = np.histogram(group, bins=BINS, range=(-1, 1))[0]
                series[f"{model}.{tokens}"] = histogram.tolist()
            else:
                why = NOT_FINITE if len(group) else f"the text has no {words}"
                described = dict.fromkeys(_NUMBERS, why if changes else reason)
            numbers |= {f"{model}.{tokens}.{name}": n for name, n in described.items()}
    return Result.of(numbers, DESCRIPTIONS, series)


def _changes(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the changes of probability by group of positions, which is "forget" or "other".

    Chunks in which the two models have different numbers of tokens are ignored.
    """
    chunks = [k for k in own if k in other and len(own[k]["logp"]) == len(other[k]["logp"])]
    if not chunks:
        return {}
    p_own, p_other = (
        np.exp(np.concatenate([rows[k]["logp"] for k in chunks])) for rows in (own, other)
    )
    forget = np.concatenate([own[k]["forget"] for k in chunks]).astype(bool)
    change = p_own - p_other
    return {"forget": change[forget], "other": change[~forget]}
