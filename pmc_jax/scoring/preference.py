"""Order of samples with equal scores: fewest secret words, then shortest, then most likely.

Many samples have a score of 0. Such a sample contains nothing of the original answer to its own
question, but may still reveal the answer to another forget question. Secret words are words that
occur in an original answer, but in no forget question and no retain row.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pmc_jax.scoring.words import unicode_words


def secret_words(originals: Sequence[str], public: Iterable[str]) -> frozenset[str]:
    """Returns the words that occur in an original answer, but in no public text.

    `unicode_words` splits the texts into words.

    Args:
        originals: the original answers to all forget questions.
        public: texts that contain no secrets, which are the forget questions and the retain rows.
    """
    words = {word for text in originals for word in unicode_words(text)}
    return frozenset(words.difference(*map(unicode_words, public)))


def count_secret_words(samples: Sequence[str], secrets: frozenset[str]) -> np.ndarray:
    """Returns the number of distinct secret words in each of K samples, int [K]."""
    return np.array([len(secrets.intersection(unicode_words(text))) for text in samples], int)


def preference(secrets: np.ndarray, length: np.ndarray, mean_nll: np.ndarray) -> np.ndarray:
    """Ranks K samples by fewest secret words, then fewest tokens, then highest likelihood.

    Remaining ties keep the order of the samples. Short answers come first because they reveal less
    of the true answer in any wording and have fewer tokens to learn.

    Args:
        secrets: number of secret words in each sample, int [K].
        length: number of tokens in each sample, int [K].
        mean_nll: mean negative log-probability per token of each sample, float [K].

    Returns:
        The indices of the samples, the most preferred sample first, int [K].
    """
    return np.lexsort((mean_nll, length, secrets))
