"""Which of equally good samples is kept: the one that tells least.

Scores of 0 are common, and say only that a sample has nothing of *its* original answer. It may
still tell what another forget question asks for.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pmc_jax.scoring.rouge import tokenize


def secret_words(originals: Sequence[str], known: Iterable[str]) -> frozenset[str]:
    """Stems that the original answers have and no text that stays does.

    Args:
        originals: the untouched model's answers to all forget questions.
        known: the forget questions, and the retain rows.
    """
    told = {word for text in originals for word in tokenize(text)}
    return frozenset(told.difference(*map(tokenize, known)))


def told(samples: Sequence[str], secrets: frozenset[str]) -> np.ndarray:
    """How many different secret words each sample has, int [K]."""
    return np.array([len(secrets.intersection(tokenize(text))) for text in samples], int)


def preference(secrets: np.ndarray, length: np.ndarray, mean_nll: np.ndarray) -> np.ndarray:
    """The order in which samples of equal scores are preferred: with the fewest secret words, then
    the shortest, then the likeliest, then the first.

    A short answer recalls less of any wording of the true one, and is learned in fewer tokens.

    Args:
        secrets: int [K], secret words of K samples, from `told`.
        length: [K], tokens of each.
        mean_nll: float [K], mean negative log-probability per token.

    Returns:
        int [K], indices of the samples, the most preferred first.
    """
    return np.lexsort((mean_nll, length, secrets))
