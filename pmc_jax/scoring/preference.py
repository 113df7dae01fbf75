"""Order of samples with equal scores: fewest secret words, then shortest, then most likely.

Many samples have a score of 0. This score says only that a sample contains nothing of the original
answer to its own question. The sample may still reveal the answer to another forget question.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from pmc_jax.scoring.words import unicode_words


def secret_words(originals: Sequence[str], public: Iterable[str]) -> frozenset[str]:
    """Returns the words (`unicode_words`) that occur in original answers and in no public text.

    Args:
        originals: the original answers to all forget questions.
        public: the forget questions and the texts of the retain rows.
    """
    words = {word for text in originals for word in unicode_words(text)}
    return frozenset(words.difference(*map(unicode_words, public)))


def count_secret_words(samples: Sequence[str], secrets: frozenset[str]) -> np.ndarray:
    """Counts the distinct secret words in each of K samples. Returns int [K]."""
    return np.array([len(secrets.intersection(unicode_words(text))) for text in samples], int)


def preference(secrets: np.ndarray, length: np.ndarray, mean_nll: np.ndarray) -> np.ndarray:
    """Sorts K samples of equal scores: fewest secret words, then shortest, then most likely first.

    Remaining ties keep the order of the samples. Short answers come first because they reveal less
    of the true answer in any wording and have fewer tokens to learn.

    Args:
        secrets: int [K], number of secret words in each sample, from `count_secret_words`.
        length: [K], number of tokens in each sample.
        mean_nll: float [K], mean negative log-probability per token of each sample.

    Returns:
        int [K], indices of the samples, the most preferred first.
    """
    return np.lexsort((mean_nll, length, secrets))
