"""ROUGE recall of short answers, bit-identical to `rouge_score` 0.1.2 with `use_stemmer=True`.

The tokenizer is that of rouge_score, but each distinct word is stemmed only once. rapidfuzz
computes the longest common subsequence (C++, bit-parallel). Precision, F-measure, ROUGE-2 and
ROUGE-Lsum are not implemented because PMC and TOFU do not use them.

Reference: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from rapidfuzz.distance import LCSseq
from rouge_score import tokenize as rouge_tokenize


@cache
def _porter():
    # nltk takes about a second to import, so it is imported on first use.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


class _CachedStemmer:
    """Stemmer for the tokenizer of rouge_score that stems each distinct word only once.

    Stemming takes 90 % of the time of an uncached score, and the same words occur in many answers.
    """

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        return _porter().stem(word)


def tokenize(text: str) -> tuple[str, ...]:
    """Splits a text into lower-case tokens and stems those of more than 3 characters (Porter).

    A token is a run of `[a-z0-9]`. Every other character separates tokens, including non-ASCII
    letters, as in rouge_score.
    """
    return tuple(rouge_tokenize.tokenize(text, _CachedStemmer))


def rougeL_recall(reference: str, hypothesis: str) -> float:
    """Computes ROUGE-L recall: longest common subsequence of tokens / number of reference tokens.

    Args:
        reference: the text to be recalled, such as the true answer or the original answer.
        hypothesis: the text that is scored.

    Returns:
        A float in [0, 1]; 0 if either text has no token.
    """
    expected, actual = tokenize(reference), tokenize(hypothesis)
    if not expected or not actual:
        return 0.0
    # rapidfuzz compares hashes. Small integers hash to themselves, so the comparison is exact.
    # A token that the reference lacks cannot be in a common subsequence, so it is dropped.
    index: dict[str, int] = {}
    left = [index.setdefault(token, len(index)) for token in expected]
    right = [index[token] for token in actual if token in index]
    return LCSseq.similarity(left, right) / len(expected)


def rouge1_recall(reference: str, hypothesis: str) -> float:
    """Computes ROUGE-1 recall: common tokens (with multiplicity) / number of reference tokens.

    Returns:
        A float in [0, 1]; 0 if either text has no token.
    """
    expected, actual = Counter(tokenize(reference)), Counter(tokenize(hypothesis))
    return (expected & actual).total() / max(expected.total(), 1)


def rougeL_recall_many(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Computes `rougeL_recall` for each of N pairs of reference and hypothesis.

    Returns:
        The recalls, float64 [N].

    Raises:
        ValueError: `references` and `hypotheses` have different lengths.
    """
    pairs = zip(references, hypotheses, strict=True)
    return np.array([rougeL_recall(*pair) for pair in pairs], np.float64)
