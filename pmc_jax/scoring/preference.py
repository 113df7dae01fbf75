"""Tie-break among equal scores: fewest secret words, then shortest, then most likely.

Scores of 0 are common, and say only that a sample has nothing of *its* original answer. It may
still reveal what another forget question asks for.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pmc_jax.scoring.rouge import tokenize


def secret_words(originals: Sequence[str], public: Iterable[str]) -> frozenset[str]:
    """Word stems that occur in original answers and in no text that stays.

    Args:
        originals: the untouched model's answers to all forget questions.
        public: the forget questions, and the retain rows.
    """
    words = {word for text in originals for word in tokenize(text)}
    return frozenset(words.difference(*map(tokenize, public)))


def count_secret_words(samples: Sequence[str], secrets: frozenset[str]) -> np.ndarray:
    """How many different secret words each sample has, int [K]."""
    return np.array([len(secrets.intersection(tokenize(text))) for text in samples], int)


def preference(secrets: np.ndarray, length: np.ndarray, mean_nll: np.ndarray) -> np.ndarray:
    """The order in which samples of equal scores are preferred: with the fewest secret words, then
    the shortest, then the most likely, then the first.

    A short answer recalls less of any wording of the true one, and is learned in fewer tokens.

    Args:
        secrets: int [K], secret words of K samples, from `count_secret_words`.
        length: [K], tokens of each.
        mean_nll: float [K], mean negative log-probability per token.

    Returns:
        int [K], indices of the samples, the most preferred first.
    """
    return np.lexsort((mean_nll, length, secrets))
