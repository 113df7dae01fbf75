"""The protocol of a score, the check of what it returns, and the penalties that any may have."""

import functools
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Score(Protocol):
    """(original answer, its K samples) -> float [K], finite, lower is better."""

    def __call__(self, original: str, samples: Sequence[str]) -> np.ndarray: ...


def is_empty(text: str) -> bool:
    """Whether an answer says nothing: no character but white space."""
    return not text.strip()


def worst_where(refused: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`scores` [K] with 1 where `refused` bool [K], or the worst of all K if that is above 1."""
    return np.where(refused, np.max(scores, initial=1.0), scores)


def with_min_len(score: Score, min_len: int) -> Score:
    """Penalises short answers: `min(1, score + exp(-n))` where `n < min_len`.

    `n = len(text.strip().split(" "))`, the reference's count: pieces between single spaces, so
    that an empty text counts 1 and a double space adds one. `min_len = 0` changes nothing.

    A score above 1, which only a user's function gives, is left as it is rather than lowered.
    """
    if min_len <= 0:
        return score

    @functools.wraps(score)
    def penalised(original: str, samples: Sequence[str]) -> np.ndarray:
        scores = np.asarray(score(original, samples), np.float64)
        lengths = [len(sample.strip().split(" ")) for sample in samples]
        penalty = np.array([math.exp(-n) if n < min_len else 0.0 for n in lengths])
        return np.maximum(scores, np.minimum(1.0, scores + penalty))

    return penalised


def with_empty_guard(score: Score) -> Score:
    """Gives an empty sample the worst score: 1, or the worst of the other samples if above 1.

    Without it an empty answer recalls nothing, scores a perfect 0 and is kept for ever: the model
    is trained to be silent. The published runs had no guard.
    """

    @functools.wraps(score)
    def guarded(original: str, samples: Sequence[str]) -> np.ndarray:
        scores = np.asarray(score(original, samples), np.float64)
        return worst_where(np.array([is_empty(sample) for sample in samples], bool), scores)

    return guarded


def score_batch(
    score: Score, originals: Sequence[str], samples: Sequence[Sequence[str]]
) -> np.ndarray:
    """Scores a batch of questions.

    Args:
        score: from `run_score`, or any `Score`.
        originals: B original answers.
        samples: B × K samples.

    Returns:
        float64 [B, K].

    Raises:
        ValueError: lengths that do not fit, or a score that returned anything but K finite numbers.
    """
    safe = checked(score)
    scores = [safe(original, answers) for original, answers in zip(originals, samples, strict=True)]
    return np.stack(scores) if scores else np.zeros((0, 0))


def checked(score: Score) -> Score:
    """`score`, with a clear ValueError when it does not return K finite numbers."""
    name = getattr(score, "__name__", type(score).__name__)

    @functools.wraps(score, updated=())
    def checked(original: str, samples: Sequence[str]) -> np.ndarray:
        returned = score(original, samples)
        wanted = f"score {name!r} must return {len(samples)} finite numbers, one a sample"
        try:
            scores = np.asarray(returned, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{wanted}; it returned a {type(returned).__name__}") from None
        if scores.shape != (len(samples),):
            raise ValueError(f"{wanted}; it returned the shape {scores.shape}")
        if not np.isfinite(scores).all():
            raise ValueError(f"{wanted}; sample {int(np.argmin(np.isfinite(scores)))} is not")
        return scores

    return checked
