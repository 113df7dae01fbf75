"""Measures the memorisation of the answers to forget questions and to retain questions.

A token is a hit if it is the most likely token after the question and the true tokens before it. An
answer has n tokens without the end token, which is excluded as in open-unlearning:

    exact         Share of hits ("exact memorisation").
    extraction    1 - k / n ("extraction strength"), where k is the smallest number of given tokens
                  after which all other tokens are hits.

Both numbers are means over rows. As in open-unlearning, k is at most n - 1: if the last token is no
hit, so that no text can be extracted, the row has 1 / n instead of 0. Answers that consist only of
the end token are ignored.

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
        "share of each forget answer that can be extracted", "reference"
    ),
    "retain.exact": Description("memorised tokens of the retain answers", "higher"),
    "retain.extraction": Description("share of each retain answer that can be extracted", "higher"),
}


def exact(hits: Sequence[int]) -> float:
    """Returns the share of hits in one answer.

    Args:
        hits: 1 (hit) or 0 for each token of the answer except the end token; at least one token.
    """
    return float(np.mean(hits))


def extraction(hits: Sequence[int]) -> float:
    """Returns the extraction strength 1 - k / n of one answer (see the module docstring).

    Args:
        hits: 1 (hit) or 0 for each token of the answer except the end token; at least one token.
    """
    misses = np.flatnonzero(np.asarray(hits) == 0)
    k = misses[-1] + 1 if len(misses) else 0
    return float(1 - min(k, len(hits) - 1) / len(hits))


def summarise(own: Rows, *_: Any) -> Result:
    """Computes `exact` and `extraction` for the forget rows and for the retain rows."""
    numbers: dict[str, float | str] = {}
    for split in ("forget", "retain"):
        rows = likelihood_of(own, split)
        hits = [row["answer"]["is_argmax"][:-1] for row in rows.values()]
        hits = [answer for answer in hits if answer]
        reason = unusable(rows if hits else {}, split)
        for name, measure in (("exact", exact), ("extraction", extraction)):
            numbers[f"{split}.{name}"] = reason or np.mean([measure(answer) for answer in hits])
    return Result.of(numbers, DESCRIPTIONS)
