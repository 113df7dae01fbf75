"""Memorisation of the answers of the forget rows and of the retain rows, which should stay.

A token is a hit if it is the most likely one after the question and the true tokens before it. Each
answer has n tokens; the end token is excluded, as in open-unlearning:

    exact         share of hits ("exact memorisation")
    extraction    1 - k / n with k the smallest number of given tokens after which all others are
                  hits ("extraction strength")

Both are means over rows. As in open-unlearning, k is at most n - 1: if the last token is wrong, so
that no text can be extracted, a row has 1 / n instead of 0. Rows of an end token only are ignored.

References: Tirumala et al., "Memorization Without Overfitting", arXiv 2205.10770; Carlini et al.,
"Extracting Training Data from Large Language Models", arXiv 2012.07805; both as in open-unlearning,
arXiv 2506.12618.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, likelihood_of, unusable

DESCRIPTIONS = {
    "forget.exact": Description("memorised tokens of the forget answers", "reference"),
    "forget.extraction": Description(
        "end of the forget answers that can be extracted", "reference"
    ),
    "retain.exact": Description("memorised tokens of the retain answers", "higher"),
    "retain.extraction": Description("end of the retain answers that can be extracted", "higher"),
}


def exact(hits: Sequence[int]) -> float:
    """Share of hits.

    Args:
        hits: 1 or 0 of each token of one answer, without the end token; at least one.
    """
    return float(np.mean(hits))


def extraction(hits: Sequence[int]) -> float:
    """1 - k / n with k the smallest of 0 ... n - 1 after which all are hits, else n - 1.

    Args:
        hits: 1 or 0 of each token of one answer, without the end token; at least one.
    """
    misses = np.flatnonzero(np.asarray(hits) == 0)
    k = misses[-1] + 1 if len(misses) else 0
    return float(1 - min(k, len(hits) - 1) / len(hits))


def summarise(own: Rows, *_: Any) -> Result:
    """Both numbers of both splits."""
    numbers: dict[str, float | str] = {}
    for split in ("forget", "retain"):
        rows = likelihood_of(own, split)
        hits = [row["answer"]["is_argmax"][:-1] for row in rows.values()]
        hits = [answer for answer in hits if answer]
        reason = unusable(rows if hits else {}, split)
        for name, measure in (("exact", exact), ("extraction", extraction)):
            numbers[f"{split}.{name}"] = reason or np.mean([measure(answer) for answer in hits])
    return Result.of(numbers, DESCRIPTIONS)
