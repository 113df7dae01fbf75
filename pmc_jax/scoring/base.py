"""Protocol of a score, checks of its results, and penalties for short and empty answers."""

import functools
import math
import traceback
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pmc_jax.errors import UserError


class Score(Protocol):
    """Function that maps an original answer and its K samples to K scores.

    The scores are finite floats [K]. Lower is better.
    """

    def __call__(self, original: str, samples: Sequence[str]) -> np.ndarray: ...


def is_empty(text: str) -> bool:
    """Returns whether an answer contains no character other than white space."""
    return not text.strip()


def worst_where(refused: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Replaces each score [K] for which `refused` bool [K] is True with the worst score.

    The worst score is 1, or the largest of all K scores if this score is above 1.
    """
    return np.where(refused, np.max(scores, initial=1.0), scores)


def with_min_len(score: Score, min_len: int) -> Score:
    """Returns a score with a penalty for short answers: `min(1, score + exp(-n))` if `n < min_len`.

    `n` is `len(text.strip().split(" "))`, as in the reference implementation. An empty text counts
    as one word, and each double space adds one word. `min_len = 0` changes nothing.

    A score above 1, which only a user's function returns, is not lowered to 1.
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
    """Returns a score that gives every empty sample the worst score.

    The worst score is 1, or the largest score of the other samples if this score is above 1.
    Without this guard, an empty answer scores a perfect 0 and is never replaced, so the model
    learns to be silent. The published runs had no guard.
    """

    @functools.wraps(score)
    def guarded(original: str, samples: Sequence[str]) -> np.ndarray:
        scores = np.asarray(score(original, samples), np.float64)
        return worst_where(np.array([is_empty(sample) for sample in samples], bool), scores)

    return guarded


def score_batch(
    score: Score, originals: Sequence[str], samples: Sequence[Sequence[str]]
) -> np.ndarray:
    """Computes the scores of K samples for each of B questions.

    Args:
        score: the result of `run_score`, or any other `Score`.
        originals: B original answers.
        samples: B × K samples.

    Returns:
        The scores, float64 [B, K].

    Raises:
        ValueError: `originals` and `samples` have different lengths.
        UserError: the score raises, or does not return K finite numbers for a question.
    """
    safe = checked(score)
    scores = [safe(original, answers) for original, answers in zip(originals, samples, strict=True)]
    return np.stack(scores) if scores else np.zeros((0, 0))


def checked(score: Score) -> Score:
    """Returns a score that raises a UserError unless `score` returns K finite numbers.

    If `score` itself raises, the message gives the type and the line of the error. The message
    omits the text of the error, which may quote an answer.
    """
    name = getattr(score, "__name__", type(score).__name__)

    @functools.wraps(score, updated=())
    def checked(original: str, samples: Sequence[str]) -> np.ndarray:
        expected = f"score {name!r}: the function must return {len(samples)} finite numbers"
        try:
            returned = score(original, samples)
        except UserError:
            raise
        except Exception as error:  # A user's function may raise any type.
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"{expected}, but it raised {type(error).__name__} in line {last.lineno} of "
                f"{last.filename}. Correct the function."
            ) from None
        try:
            scores = np.asarray(returned, np.float64)
        except (TypeError, ValueError):
            kind = type(returned).__name__
            raise UserError(
                f"{expected}, but it returned a value of type {kind}. Return one number per sample."
            ) from None
        if scores.shape != (len(samples),):
            raise UserError(
                f"{expected}, but it returned shape {scores.shape}. Return one number per sample."
            )
        if not np.isfinite(scores).all():
            sample = int(np.argmin(np.isfinite(scores)))
            raise UserError(
                f"{expected}, but the score of sample {sample} is not finite. Correct the function."
            )
        return scores

    return checked
