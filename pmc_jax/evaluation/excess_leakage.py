"""How much more a model leaks than a reference that was attacked in the same way, with an interval.

NAME.above_reference is the mean difference of a leakage over the questions that both were asked;
.low and .high are the ends of its 95 % percentile bootstrap interval (questions drawn 2,000 times
with a fixed seed). An attack brings knowledge back only if it gives more than from a model that
never had it.

Reference: Efron, "Bootstrap methods", 1979.
"""

from collections.abc import Mapping

import numpy as np

from pmc_jax.evaluation.result import NO_REFERENCE, Description

RESAMPLES = 2000

Recalls = Mapping[str, float]  # question id -> ROUGE-L recall

_NAMES = ("above_reference", "above_reference.low", "above_reference.high")


def descriptions_of(leakage: str, words: str) -> dict[str, Description]:
    """Of the three numbers beside a leakage.

    Args:
        words: when the leakage is measured, as "under the prompt attack 'story'".
    """
    above = f"leakage above the reference's, {words}"
    texts = (above, f"{above}, 95 % interval from", f"{above}, 95 % interval to")
    named = zip(_NAMES, texts, strict=True)
    return {f"{leakage}.{name}": Description(text, "lower") for name, text in named}


def numbers_of(leakage: str, own: Recalls, reference: Recalls | None) -> dict[str, float | str]:
    """The three numbers, or why they are missing.

    Args:
        own: of the model; every question that it was asked.
        reference: of the reference; None without one.
    """
    other = reference or {}
    differences = np.array([own[key] - other[key] for key in own if key in other])
    if len(differences):
        numbers = (float(differences.mean()), *bootstrap(differences))
    else:
        reason = NO_REFERENCE if reference is None else "the attack was not made on the reference"
        numbers = (reason,) * len(_NAMES)
    return {f"{leakage}.{name}": number for name, number in zip(_NAMES, numbers, strict=True)}


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; the same numbers give the same interval.

    Args:
        differences: float [n], at least one.
    """
    draw = np.random.default_rng(0)
    drawn = draw.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
