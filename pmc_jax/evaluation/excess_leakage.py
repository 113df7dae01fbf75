"""Compares the leakage of a model with that of a reference model, with a confidence interval.

Both models are attacked in the same way. NAME.above_reference is the mean difference of their
leakage over the questions that both models answered. NAME.above_reference.low and .high are the
ends of its 95 % percentile bootstrap interval (2,000 resamples of the questions with a fixed seed).
An attack recovers knowledge only if it extracts more than from a model that never had the
knowledge.

Reference: Efron, "Bootstrap methods", 1979.
"""

from collections.abc import Mapping

import numpy as np

from pmc_jax.evaluation.result import NO_REFERENCE, Description

RESAMPLES = 2000

Recalls = Mapping[str, float]  # question id -> ROUGE-L recall

_NAMES = ("above_reference", "above_reference.low", "above_reference.high")


def descriptions_of(leakage: str, words: str) -> dict[str, Description]:
    """Returns the descriptions of the three numbers that compare a leakage with the reference.

    Args:
        leakage: name of the leakage, e.g. "worst".
        words: condition of the measurement, e.g. "under the prompt attack 'repeat'".
    """
    above = f"leakage minus that of the reference model, {words}"
    texts = (above, f"{above}, lower end (95 %)", f"{above}, upper end (95 %)")
    named = zip(_NAMES, texts, strict=True)
    return {f"{leakage}.{name}": Description(text, "lower") for name, text in named}


def numbers_of(leakage: str, own: Recalls, reference: Recalls | None) -> dict[str, float | str]:
    """Returns the three numbers of a leakage, or the reason why they are missing.

    Args:
        leakage: name of the leakage, e.g. "worst".
        own: recalls of the model.
        reference: recalls of the reference model; None if there is no reference model.
    """
    other = reference or {}
    differences = np.array([own[key] - other[key] for key in own if key in other])
    if len(differences):
        numbers = (float(differences.mean()), *bootstrap(differences))
    else:
        reason = NO_REFERENCE if reference is None else "the reference model was not attacked"
        numbers = (reason,) * len(_NAMES)
    return {f"{leakage}.{name}": number for name, number in zip(_NAMES, numbers, strict=True)}


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of a mean, with a fixed seed.

    Args:
        differences: float [n], n at least 1.
    """
    draw = np.random.default_rng(0)
    drawn = draw.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
