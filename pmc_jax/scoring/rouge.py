"""ROUGE recall of short answers, equal to `rouge_score` 0.1.2 with `use_stemmer=True` to the bit.

Tokens come from rouge_score's own tokenizer, with the Porter stem of each distinct word computed
once; the longest common subsequence comes from rapidfuzz (C++, bit-parallel). There is no
precision, F-measure, ROUGE-2 or ROUGE-Lsum, which PMC and TOFU do not use.

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
    # Imported on first use: nltk takes about a second to import.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


class _CachedStemmer:
    """The object with a `.stem` that rouge_score's tokenizer expects; stems each word once.

    Stemming is 90 % of the time of an uncached score and the words of answers repeat.
    """

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        return _porter().stem(word)


def tokenize(text: str) -> tuple[str, ...]:
    """Lower-cased runs of `[a-z0-9]`; those longer than 3 characters Porter-stemmed.

    Every other character, non-ASCII letters included, separates tokens, as in rouge_score.
    """
    return tuple(rouge_tokenize.tokenize(text, _CachedStemmer))


def rougeL_recall(reference: str, hypothesis: str) -> float:
    """ROUGE-L recall: length of the longest common token subsequence / reference tokens.

    Args:
        reference: the text to be recalled (the true, or the original model's, answer).
        hypothesis: the text that is scored.

    Returns:
        A float in [0, 1]; 0 when either text has no token.
    """
    expected, actual = tokenize(reference), tokenize(hypothesis)
    if not expected or not actual:
        return 0.0
    # rapidfuzz compares hashes: small integers hash to themselves, so that equal means equal.
    # A token that the reference lacks cannot be in a common subsequence and is left out.
    index: dict[str, int] = {}
    left = [index.setdefault(token, len(index)) for token in expected]
    right = [index[token] for token in actual if token in index]
    return LCSseq.similarity(left, right) / len(expected)


def rouge1_recall(reference: str, hypothesis: str) -> float:
    """ROUGE-1 recall: tokens in common, counted with multiplicity, / reference tokens.

    Returns:
        A float in [0, 1]; 0 when either text has no token.
    """
    expected, actual = Counter(tokenize(reference)), Counter(tokenize(hypothesis))
    return (expected & actual).total() / max(expected.total(), 1)


def rougeL_recall_many(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """`rougeL_recall` of each pair.

    Args:
        references: N texts.
        hypotheses: N texts.

    Returns:
        float64 [N].

    Raises:
        ValueError: the two have different lengths.
    """
    pairs = zip(references, hypotheses, strict=True)
    return np.array([rougeL_recall(*pair) for pair in pairs], np.float64)
