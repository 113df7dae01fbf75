"""ROUGE recall of short answers.

With the default rule `ascii` (see `words`), the results are bit-identical to `rouge_score` 0.1.2
with `use_stemmer=True`. rapidfuzz computes the longest common subsequence (C++, bit-parallel).
Precision, F-measure, ROUGE-2 and ROUGE-Lsum are not implemented, because PMC and TOFU do not use
them.

Reference: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq

from pmc_jax.scoring.words import Words, ascii_words


def rougeL_recall(reference: str, hypothesis: str, words: Words = ascii_words) -> float:
    """Computes ROUGE-L recall: longest common subsequence of words / number of reference words.

    Args:
        reference: the text to be recalled, such as the true answer or the original answer.
        hypothesis: the text that is searched for the words of the reference.
        words: function that splits a text into words, such as a value of `words.RULES`.

    Returns:
        The recall from 0 to 1, which is 0 if either text has no word.
    """
    expected, actual = words(reference), words(hypothesis)
    if not expected or not actual:
        return 0.0
    # rapidfuzz compares hashes. Small integers hash to themselves, so the comparison is exact.
    # A word that the reference lacks cannot be in a common subsequence, so it is dropped.
    index: dict[str, int] = {}
    left = [index.setdefault(word, len(index)) for word in expected]
    right = [index[word] for word in actual if word in index]
    return LCSseq.similarity(left, right) / len(expected)


def rouge1_recall(reference: str, hypothesis: str, words: Words = ascii_words) -> float:
    """Computes ROUGE-1 recall: number of common words / number of reference words.

    A word that occurs several times in both texts counts several times. The arguments have the same
    meaning as in `rougeL_recall`.

    Returns:
        The recall from 0 to 1, which is 0 if either text has no word.
    """
    expected, actual = Counter(words(reference)), Counter(words(hypothesis))
    return (expected & actual).total() / max(expected.total(), 1)


def rougeL_recall_many(
    references: Sequence[str], hypotheses: Sequence[str], words: Words = ascii_words
) -> np.ndarray:
    """Computes `rougeL_recall` of each reference and the hypothesis at the same index.

    Returns:
        The recall of each pair, float64 [number of pairs].

    Raises:
        ValueError: `references` and `hypotheses` have different lengths.
    """
    pairs = zip(references, hypotheses, strict=True)
    return np.array([rougeL_recall(*pair, words) for pair in pairs], np.float64)
