"""Rules by which a sample counts as an answer: its words, lines, repetition and perplexity.

Every text that is unlike the original answer has a good score, so PMC would choose meaningless text
without these rules. This module runs no model. The caller passes the log-probabilities.
"""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np

from pmc_jax.config.pmc import SelectionConfig
from pmc_jax.data.spelling import spelled_words, words_and_marks


def repetition(text: str) -> float:
    """Computes the fraction of a text that repeats itself, from 0 to 1.

    The text is split into words and punctuation marks, and case is ignored. The function counts two
    kinds of neighbouring pairs: pairs that have occurred before, and pairs within the longest run
    of one word. The result is the larger count divided by the number of pairs. The result is 1 for
    "the the the", 3/5 for "in town in town in town", and 0 for a text of one word.
    """
    pieces = [piece.casefold() for piece in words_and_marks(text)]
    if len(pieces) < 2:
        return 0.0
    pairs = list(pairwise(pieces))
    run = max(len(list(same)) for _, same in groupby(pieces))
    return max(1 - len(set(pairs)) / len(pairs), (run - 1) / len(pairs))


def coherent(
    original: str,
    samples: Sequence[str],
    settings: SelectionConfig,
    *,
    mean_nll: Sequence[float] | None = None,
) -> np.ndarray:
    """Checks for each sample whether it counts as an answer.

    A sample may always be as short and as repetitive and have as many lines as the original answer,
    even if the original answer breaks the rules.

    Args:
        original: the original answer.
        samples: K samples.
        settings: settings with `min_words`, `max_repetition`, `max_perplexity` and `extra_lines`.
        mean_nll: mean negative log-probability per token of each sample, at temperature 1, under
            the model that generated the sample, float [K]. The argument is required if
            `max_perplexity` is set. The value of a sample without tokens is nan, which passes the
            perplexity check.

    Returns:
        Whether each sample counts as an answer, bool [K].
    """
    fine = np.ones(len(samples), bool)
    if settings.min_words:
        least = min(settings.min_words, len(spelled_words(original)))
        fine &= np.array([len(spelled_words(sample)) >= least for sample in samples], bool)
    if settings.max_repetition < 1:
        most = max(settings.max_repetition, repetition(original))
        fine &= np.array([repetition(sample) <= most for sample in samples], bool)
    if not settings.extra_lines:
        most_lines = max(1, _lines(original))
        fine &= np.array([_lines(sample) <= most_lines for sample in samples], bool)
    if settings.max_perplexity is not None:
        assert mean_nll is not None and len(mean_nll) == len(samples)
        fine &= ~(np.asarray(mean_nll, np.float64) > math.log(settings.max_perplexity))
    return fine


def _lines(text: str) -> int:
    """Returns the number of lines of a text that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())
