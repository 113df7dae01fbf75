"""Longest common subsequence of token ids, on the device. It knows no text."""

import jax
import jax.numpy as jnp

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
