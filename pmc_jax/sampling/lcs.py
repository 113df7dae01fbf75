"""Longest common subsequence of token ids, on the device."""

import jax
import jax.numpy as jnp

_NOT_SAMPLED, _NOT_REFERENCE = -1, -2  # equal neither to a token nor to each other


@jax.jit
def lcs_lengths(
    samples: jax.Array, lengths: jax.Array, references: jax.Array, reference_lengths: jax.Array
) -> jax.Array:
    """Length of the longest common subsequence of each sample and the reference of its question.

    Args:
        samples: i32[B,K,T], token ids, 0 or more.
        lengths: i32[B,K], tokens of each sample; the rest is padding.
        references: i32[B,R], token ids.
        reference_lengths: i32[B], tokens of each reference; the rest is padding.

    Returns:
        i32[B,K]; divided by the length of the reference, it is the recall.
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
        window, last, before = state  # [B,K,R] each; window: sample token at each reference token
        window = shifted(window, token)
        nothing = jnp.zeros_like(token)
        matched = shifted(before, nothing) + (window == wanted).astype(jnp.int32)
        longest = jnp.maximum(jnp.maximum(last, shifted(last, nothing)), matched)
        return (window, longest, last), None

    zeros = jnp.zeros((*samples.shape[:2], size), jnp.int32)
    begin = (jnp.full_like(zeros, _NOT_SAMPLED), zeros, zeros)
    (_, longest, _), _ = jax.lax.scan(diagonal, begin, jnp.moveaxis(samples, -1, 0), unroll=4)
    return longest[..., -1]
