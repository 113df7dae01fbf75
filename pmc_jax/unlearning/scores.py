"""Scores: how like the model's own original answer a sample still is. Lower is better.

The default is the paper's: ROUGE-L recall of the sample against the original model's greedy
answer (the paper's reward is 1 - score). A score may be any function of (original answer,
samples); PMC never shows it a true forget answer. The scale that the rest of the method assumes:
0 (or less) means "nothing left of the original", and such a question is never sampled again; 1 is
as bad as it gets, and it is what an empty answer is given.

An empty original answer has nothing to recall: ROUGE gives 0 to every sample.

Reference: Scholten et al., arXiv 2507.04219.
"""

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from pmc_jax.errors import UserError
from pmc_jax.evaluation import rouge


class Score(Protocol):
    """(original answer, its K samples) -> float [K], finite, lower is better."""

    def __call__(self, original: str, samples: Sequence[str]) -> np.ndarray: ...


def rougeL_recall(original: str, samples: Sequence[str]) -> np.ndarray:
    """ROUGE-L recall of each sample, the reference being the original answer. float64 [K]."""
    return rouge.rougeL_recall_many([original] * len(samples), samples)


def rouge1_recall(original: str, samples: Sequence[str]) -> np.ndarray:
    """ROUGE-1 recall: stricter, word order does not help a sample. float64 [K]."""
    return np.array([rouge.rouge1_recall(original, sample) for sample in samples], np.float64)


SCORES: dict[str, Score] = {"rougeL_recall": rougeL_recall, "rouge1_recall": rouge1_recall}


def is_empty(text: str) -> bool:
    """Whether an answer says nothing: no character but white space."""
    return not text.strip()


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
        empty = np.array([is_empty(sample) for sample in samples], bool)
        return np.where(empty, np.max(scores, initial=1.0), scores)

    return guarded


def resolve_score(
    name_or_callable: str | Callable, *, min_len: int = 0, guard_empty: bool = True
) -> Score:
    """The score that a config names, with its penalties.

    Args:
        name_or_callable: a key of `SCORES`, "package.module:function", or a function.
        min_len: see `with_min_len`.
        guard_empty: see `with_empty_guard`.

    Raises:
        UserError: no such name, module or function.
    """
    score = _lookup(name_or_callable) if isinstance(name_or_callable, str) else name_or_callable
    if not callable(score):
        raise UserError(f"pmc.score: {name_or_callable!r} is not a function; give one")
    score = with_min_len(_checked(score), min_len)
    return with_empty_guard(score) if guard_empty else score


def score_batch(
    score: Score, originals: Sequence[str], samples: Sequence[Sequence[str]]
) -> np.ndarray:
    """Scores a batch of questions.

    Args:
        score: from `resolve_score`, or any `Score`.
        originals: B original answers.
        samples: B × K samples.

    Returns:
        float64 [B, K].

    Raises:
        ValueError: lengths that do not fit, or a score that returned anything but K finite numbers.
    """
    if len(originals) != len(samples):
        raise ValueError(f"{len(originals)} original answers but samples of {len(samples)}")
    num_samples = len(samples[0]) if len(samples) else 0
    if any(len(row) != num_samples for row in samples):
        raise ValueError("score_batch needs the same number of samples for every question")
    scores = np.zeros((len(originals), num_samples), np.float64)
    checked = _checked(score)
    for row, (original, answers) in enumerate(zip(originals, samples, strict=True)):
        scores[row] = checked(original, answers)
    return scores


def _checked(score: Score) -> Score:
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


def _lookup(name: str) -> Callable:
    if name in SCORES:
        return SCORES[name]
    if ":" not in name:
        near = get_close_matches(name, SCORES, n=1, cutoff=0.0)[0]
        raise UserError(
            f"pmc.score: no score {name!r}; did you mean {near!r}? "
            "(a function of your own is written package.module:function)"
        )
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"pmc.score: cannot import {module_name!r} of {name!r} ({error}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, function):
        near = get_close_matches(function, dir(module), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "name a function of it"
        raise UserError(f"pmc.score: module {module_name!r} has no {function!r}; {hint}")
    return getattr(module, function)
