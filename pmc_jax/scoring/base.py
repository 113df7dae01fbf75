"""Protocol of a score, checks of its results, and penalties for short and empty answers."""

import functools
import math
import traceback
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from pmc_jax.errors import UserError


class Score(Protocol):
    """Function that maps an original answer and K samples to K scores.

    The samples are sampled answers to the question of the original answer. The scores are finite
    floats [K], from 0 (a sample has nothing of the original answer) to 1. Lower is better.

    Raises:
        UserError: if the function raises another error, a run ends with this error.

    Example:
        >>> def same_length(original: str, samples: list[str]) -> list[float]:
        ...     return [float(len(text) == len(original)) for text in samples]
        >>> score: pmc.Score = same_length
        >>> score("Paris", ["Rome", "Milan"])
        [0.0, 1.0]

    A score may have an attribute `lower_bound`: a score of the beginning of an answer, which is at
    most the score of every answer that begins so. PMC then does not decode the rest of samples that
    it can no longer select (`pmc.sampling.end_early`). For a score that never falls as an answer
    grows by whole words, this is the score itself: `score.lower_bound = score`. With a bound, both
    functions are also called with beginnings, which may be empty, and from two threads.
    """

    def __call__(self, original: str, samples: list[str], /) -> ArrayLike: ...


def lower_bound(score: Score) -> Score | None:
    """Returns the lower bound that a score declares for unfinished answers, or None.

    Raises:
        UserError: the attribute is not a function.
    """
    bound = getattr(score, "lower_bound", None)
    if bound is None:
        return None
    if not callable(bound):
        raise UserError(
            "score: the attribute lower_bound is not a function. Set it to a score of beginnings, "
            "or remove it."
        )
    return functools.partial(bound)  # without a bound of its own


def never_falling(score: Score) -> Score:
    """Declares that a score never falls as an answer grows by whole words, and returns it."""
    score.lower_bound = score
    return score


def is_empty(text: str) -> bool:
    """Returns whether an answer contains no character other than white space."""
    return not text.strip()


def worst_where(refused: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Replaces the scores of refused samples with the worst score, and returns all K scores.

    The worst score is 1, or the largest of the K scores if that is above 1.

    Args:
        refused: whether each sample is refused, bool [K].
        scores: score of each sample, float [K].
    """
    return np.where(refused, np.max(scores, initial=1.0), scores)


def with_min_len(score: Score, min_len: int) -> Score:
    """Returns a score with a penalty for samples of fewer than `min_len` words.

    A sample of n words gets min(1, score + exp(-n)) if n < `min_len`. As in the reference
    implementation, n is `len(sample.strip().split(" "))`, so an empty sample counts as one word and
    each further space between two words adds one word. A score above 1 is not lowered to 1.

    The lower bound of the score does not change, because a longer answer has a lower penalty.

    Args:
        score: the score without the penalty.
        min_len: minimum number of words without a penalty. With 0, no sample gets the penalty.
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

    The worst score is 1, or the largest score of all samples if that is above 1. Without this
    guard, an empty answer has the best score, 0, so the model learns to give empty answers. The
    published runs had no guard. The lower bound of the score does not change.
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
        score: the score to compute.
        originals: original answer to each of the B questions.
        samples: K samples for each of the B questions.

    Returns:
        The scores, float64 [B, K].

    Raises:
        ValueError: `originals` and `samples` have different lengths.
        UserError: the score raises an error, or does not return K finite numbers for a question.
    """
    safe = checked(score)
    scores = [safe(original, answers) for original, answers in zip(originals, samples, strict=True)]
    return np.stack(scores) if scores else np.zeros((0, 0))


def raised(error: Exception) -> str:
    """Returns the type and the line of an error, but not its text, which may quote an answer."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} in line {last.lineno} of {last.filename}"


def checked(score: Score) -> Score:
    """Returns a score that raises a UserError unless `score` returns one finite number per sample.

    If `score` raises another error, the message of the UserError gives the type and the line of
    that error, but not its text, which may quote an answer.
    """
    plain = score.func if isinstance(score, functools.partial) else score
    name = getattr(plain, "__name__", type(plain).__name__)

    @functools.wraps(score, updated=())
    def safe(original: str, samples: Sequence[str]) -> np.ndarray:
        count = len(samples)
        expected = f"score {name!r}: the function must return finite numbers of shape ({count},)"
        try:
            returned = score(original, samples)
        except UserError:
            raise
        except Exception as error:  # A user's function may raise any type.
            raise UserError(f"{expected}, but it {raised(error)}. Correct the function.") from None
        try:
            scores = np.asarray(returned, np.float64)
        except (TypeError, ValueError):
            kind = type(returned).__name__
            raise UserError(
                f"{expected}, but it returned a value of type {kind}, which cannot be converted to "
                "numbers. Return one number per sample."
            ) from None
        if scores.shape != (count,):
            raise UserError(
                f"{expected}, but it returned shape {scores.shape}. Return one number per sample."
            )
        if not np.isfinite(scores).all():
            sample = int(np.argmin(np.isfinite(scores)))
            raise UserError(
                f"{expected}, but number {sample} (counted from 0) is not finite. Correct the "
                "function."
            )
        return scores

    if (bound := lower_bound(score)) is not None:
        safe.lower_bound = checked(bound)
    return safe
