"""Which samples are no answers: fragments, loops, and what the model itself finds unlikely.

An unlearning score rewards whatever is unlike the original answer, so that text which says nothing
would win. It knows no model: the caller measures the log-probabilities.
"""

import math
import re
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np

from pmc_jax.config.pmc import SelectionConfig

_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\w+|[^\w\s]")


def repetition(text: str) -> float:
    """How much of a text repeats itself, from 0 to 1.

    The larger of two shares, over words and punctuation marks with case ignored: pairs of
    neighbours that have stood before, and neighbours within the longest run of one word. "the the
    the" has 1, "in town in town in town" 3/5, a text of one piece 0.
    """
    pieces = [piece.casefold() for piece in _PIECE.findall(text)]
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
    """Whether each sample can count as an answer.

    The original answer sets the measure where it would not pass itself: a sample may always be as
    short and as repetitive as it.

    Args:
        original: the original answer.
        samples: K samples.
        settings: `min_words`, `max_repetition` and `max_perplexity` are read.
        mean_nll: mean negative log-probability per token of each sample, under the model that it
            was drawn from at temperature 1; needed where `max_perplexity` is set. nan (no token at
            all) passes.

    Returns:
        bool [K].
    """
    fine = np.ones(len(samples), bool)
    if settings.min_words:
        least = min(settings.min_words, len(_WORD.findall(original)))
        fine &= np.array([len(_WORD.findall(sample)) >= least for sample in samples], bool)
    if settings.max_repetition < 1:
        most = max(settings.max_repetition, repetition(original))
        fine &= np.array([repetition(sample) <= most for sample in samples], bool)
    if settings.max_perplexity is not None:
        assert mean_nll is not None and len(mean_nll) == len(samples)
        fine &= ~(np.asarray(mean_nll, np.float64) > math.log(settings.max_perplexity))
    return fine
