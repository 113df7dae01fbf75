"""Longest common subsequence of token ids, on the device. It knows no text.

Axis letters: B questions, K samples, T tokens of a sample, R tokens of a reference.

With L(i, j) for the first i tokens of the reference and the first j of the sample,

    L(i, j) = max(L(i-1, j), L(i, j-1), L(i-1, j-1) + [reference_i = sample_j])

whose anti-diagonals i + j = const depend on the two before them only: T + R - 1 steps, each of a
few elementwise operations on [B, K, R].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.unlearning.scores.base import Score

_SMALLEST = 32  # tokens: sizes are this times a power of two, so that few programs are compiled
_NOT_SAMPLED, _NOT_REFERENCE = -1, -2  # equal to no token, nor to each other


@jax.jit
def lcs_lengths(
    samples: jax.Array, lengths: jax.Array, references: jax.Array, reference_lengths: jax.Array
) -> jax.Array:
    """Length of the longest common subsequence of each sample and its question's reference.

    Args:
        samples: i32[B,K,T], ids of 0 or more; `lengths` i32[B,K] of them count.
        references: i32[B,R]; `reference_lengths` i32[B] of them count.

    Returns:
        i32[B,K]. Divided by the reference's length it is the recall.
    """
    size = references.shape[-1]
    inside = jnp.arange(samples.shape[-1]) < lengths[..., None]
    samples = jnp.where(inside, samples, _NOT_SAMPLED)
    samples = jnp.pad(samples, ((0, 0), (0, 0), (0, size - 1)), constant_values=_NOT_SAMPLED)
    inside = jnp.arange(size) < reference_lengths[:, None]
    wanted = jnp.where(inside, references, _NOT_REFERENCE)[:, None]  # [B,1,R]

    def shifted(x: jax.Array, first: jax.Array) -> jax.Array:
        return jnp.concatenate([first[..., None], x[..., :-1]], axis=-1)

    def diagonal(state, token):
        window, last, before = state  # [B,K,R] each: the sample's token that meets each reference's
        window = shifted(window, token)
        nothing = jnp.zeros_like(token)
        matched = shifted(before, nothing) + (window == wanted).astype(jnp.int32)
        longest = jnp.maximum(jnp.maximum(last, shifted(last, nothing)), matched)
        return (window, longest, last), None

    zeros = jnp.zeros((*samples.shape[:2], size), jnp.int32)
    begin = (jnp.full_like(zeros, _NOT_SAMPLED), zeros, zeros)
    (_, longest, _), _ = jax.lax.scan(diagonal, begin, jnp.moveaxis(samples, -1, 0), unroll=4)
    return longest[..., -1]


def token_lcs(encode: Callable[[str], Sequence[int]]) -> Score:
    """LCS recall over tokens: no stemming, and punctuation and spelling count.

    Args:
        encode: a text -> its token ids, without special tokens.

    Returns:
        A score; 0 where the original answer has no token. A program is compiled for each K and
        each power of two of tokens.
    """

    def token_lcs_recall(original: str, samples: Sequence[str]) -> np.ndarray:
        reference = encode(original)
        rows = [encode(sample) for sample in samples]
        if not len(reference) or not rows:
            return np.zeros(len(rows))
        size = _SMALLEST
        while size < max(len(reference), *map(len, rows)):
            size *= 2
        tokens, lengths = _padded([reference, *rows], size)
        arrays = jax.device_put((tokens[None, 1:], lengths[None, 1:], tokens[:1], lengths[:1]))
        return jax.device_get(lcs_lengths(*arrays))[0] / len(reference)

    return token_lcs_recall


def _padded(rows: Sequence[Sequence[int]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """i32[rows,size] filled up with zeros, and the lengths i32[rows]."""
    tokens = np.zeros((len(rows), size), np.int32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    return tokens, np.array([len(ids) for ids in rows], np.int32)
