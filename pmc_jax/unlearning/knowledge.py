"""Finds the questions whose answers the target model does not know.

Before training, each question is also asked with invented names in place of the names of its
subject. The model does not know the answer in two cases:

- Most greedy answers for invented names have almost the same words as the original answer, apart
  from words of the question.
- The original answer is no more likely than the greedy answer for one of the invented names. The
  likelihood of an answer is its mean log-probability per token.

If the model knows nothing, the original answer is the most likely of R + 1 answers with probability
1 / (R + 1), so with more invented names, the test misses fewer of these questions.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz

from pmc_jax.scoring.words import unicode_words

_EQUAL = 0.9  # ROUGE-L F-measure from which two answers count as equal


def is_unknown(
    question: str,
    original: str,
    invented: Sequence[str],
    likelihood: float,
    likelihoods: Sequence[float] | np.ndarray,
) -> bool:
    """Returns whether the model does not know the answer to a question.

    Args:
        question: the question.
        original: greedy answer to the question.
        invented: greedy answer for each of R invented names, with the name of the subject put back.
        likelihood: likelihood of the original answer.
        likelihoods: likelihood of the greedy answer for each invented name, float [R].
    """
    equal = [_are_equal(question, original, answer) for answer in invented]
    return 2 * sum(equal) > len(equal) or bool(likelihood <= np.max(likelihoods))


def _are_equal(question: str, one: str, other: str) -> bool:
    """Returns whether two answers have almost the same words, apart from those of the question."""
    given = frozenset(unicode_words(question))
    words = [[word for word in unicode_words(text) if word not in given] for text in (one, other)]
    # `fuzz.ratio` is twice the LCS divided by the sum of the lengths. Two empty lists are equal.
    return fuzz.ratio(*words) >= 100 * _EQUAL
