"""Score from the longest common subsequence (LCS) of token ids, computed on the device.

Axis letters: B questions, K samples, T tokens of a sample, R tokens of a reference.

L(i, j) is the LCS length of the first i reference tokens and the first j sample tokens:

    L(i, j) = max(L(i-1, j), L(i, j-1), L(i-1, j-1) + [reference_i = sample_j])

Each anti-diagonal i + j = const depends only on the two previous anti-diagonals. The computation
takes T + R - 1 steps, each with a few elementwise operations on [B, K, R].
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from pmc_jax.sampling.lcs import lcs_lengths
from pmc_jax.scoring.base import Score

# Sizes in tokens are this number times a power of two, so that few programs are compiled.
_SMALLEST = 32


def token_lcs(encode: Callable[[str], Sequence[int]]) -> Score:
    """Returns the score LCS length / number of tokens in the original answer.

    Tokens are compared without stemming, so punctuation and spelling count.

    Args:
        encode: function that maps a text to its token ids without special tokens.

    Returns:
        The score, which is 0 if the original answer has no token. JAX compiles one program for each
        number of samples and each padded length. A padded length is 32 tokens times a power of two.
    """

    def token_lcs_recall(original: str, samples: Sequence[str]) -> np.ndarray:
        reference = encode(original)
        rows = [encode(sample) for sample in samples]
        if not len(reference) or not rows:
            return np.zeros(len(rows))
        size = _SMALLEST
        while size < max(len(reference), *map(len, rows)):
            size *= 2
        texts = [reference, *rows]
        tokens = np.zeros((len(texts), size), np.int32)
        for row, ids in zip(tokens, texts, strict=True):
            row[: len(ids)] = ids
        lengths = np.array([len(ids) for ids in texts], np.int32)
        arrays = jax.device_put((tokens[None, 1:], lengths[None, 1:], tokens[:1], lengths[:1]))
        return jax.device_get(lcs_lengths(*arrays))[0] / len(reference)

    return token_lcs_recall
