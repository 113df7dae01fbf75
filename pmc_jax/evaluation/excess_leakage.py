"""How much more a model leaks than a reference that was attacked in the same way, with an interval.

NAME.above_reference is the mean difference of a leakage over the questions that both were asked;
.low and .high are the ends of its 95 % percentile bootstrap interval (questions drawn 2,000 times
with a fixed seed). An attack brings knowledge back only if it gives more than from a model that
never had it.

Reference: Efron, "Bootstrap methods", 1979.
"""

from collections.abc import Mapping

import numpy as np

from pmc_jax.evaluation.result import NO_REFERENCE, Description, Result

RESAMPLES = 2000

Recalls = Mapping[str, float]  # question id -> ROUGE-L recall

_NAMES = ("above_reference", "above_reference.low", "above_reference.high")


def names_of(leakage: str) -> list[str]:
    """The names of the three numbers beside a leakage."""
    return [f"{leakage}.{name}" for name in _NAMES]


def descriptions_of(leakage: str, words: str) -> dict[str, Description]:
    """Their labels.

    Args:
        words: when the leakage is measured, as "under the prompt attack 'story'".
    """
    above = f"leakage above the reference's, {words}"
    texts = (above, f"{above}, 95 % interval from", f"{above}, 95 % interval to")
    return {n: Description(t, "lower") for n, t in zip(names_of(leakage), texts, strict=True)}


def add(result: Result, leakage: str, own: Recalls, reference: Recalls | None) -> None:
    """Adds the three numbers to a result, or why they are missing.

    Args:
        own: of the model; every question that it was asked.
        reference: of the reference; None without one.
    """
    its = reference or {}
    differences = np.array([own[key] - its[key] for key in own if key in its])
    if len(differences):
        numbers = (float(differences.mean()), *bootstrap(differences))
        result.values.update(zip(names_of(leakage), numbers, strict=True))
    else:
        reason = NO_REFERENCE if reference is None else "the attack was not made on the reference"
        result.missing |= dict.fromkeys(names_of(leakage), reason)


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; the same numbers give the same interval.

    Args:
        differences: float [n], at least one.
    """
    draw = np.random.default_rng(0)
    drawn = draw.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
