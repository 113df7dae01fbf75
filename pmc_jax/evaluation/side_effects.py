"""Side effects: whether tokens of forget answers become less likely in unrelated text.

The change of p(token) at each position of unrelated text is the probability under this model minus
that under the reference, which never saw the forget rows, or under the model before unlearning. The
measure compares positions whose token occurs in a forget answer ("forget") with all others
("other"):

    mean, deviation, low (1 % quantile), high (99 % quantile), smallest
    dropped      share of positions with a change below -0.1

Without side effects, the forget positions look like the others: mean near 0 and no tail.

Reference: Scholten et al., ICLR 2026, arXiv 2507.04219, limitation of side effects.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import NO_REFERENCE, NOT_FINITE, Description, Result
from pmc_jax.evaluation.rows import Rows

DROP = 0.1
BINS = 41
_TEXT = "no text to read: evaluate.corpus.path"

_NO_BEFORE = "no model before unlearning to compare with"
_MODELS = {"reference": "against the reference", "before": "against the model before"}
_TOKENS = {"forget": "words of forgotten answers", "other": "other words"}
_NUMBERS = {
    "mean": ("{}: mean change of probability", ""),
    "deviation": ("{}: spread of the change", "lower"),
    "low": ("{}: 1 % change by less than this", "higher"),
    "high": ("{}: 1 % change by more than this", ""),
    "smallest": ("{}: largest drop", "higher"),
    "dropped": ("{}: share that drops by more than 0.1", "lower"),
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
    """The numbers in the module docstring.

    Args:
        changes: float [positions], at least one.
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
    """All numbers against the reference and the model before, as far as they are available."""
    numbers: dict[str, float | str] = {}
    series = {}
    text = own.get("text", {})
    others = (("reference", reference, NO_REFERENCE), ("before", before, _NO_BEFORE))
    for model, other, reason in others:
        changes = {} if other is None else _changes(text, other.get("text", {}))
        if other is not None:
            reason = "the other model tokenises the text differently" if text else _TEXT
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
    """Changes of p at forget and other positions of chunks that both models tokenise alike."""
    chunks = [k for k in own if k in other and len(own[k]["logp"]) == len(other[k]["logp"])]
    if not chunks:
        return {}
    p_own, p_other = (
        np.exp(np.concatenate([rows[k]["logp"] for k in chunks])) for rows in (own, other)
    )
    forget = np.concatenate([own[k]["forget"] for k in chunks]).astype(bool)
    change = p_own - p_other
    return {"forget": change[forget], "other": change[~forget]}
