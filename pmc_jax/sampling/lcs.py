"""Length of the longest common subsequence of token ids, computed on the device."""

import jax
import jax.numpy as jnp

# Padding values that are equal neither to a token id nor to each other.
_NOT_SAMPLED, _NOT_REFERENCE = -1, -2


@jax.jit
def lcs_lengths(
    samples: jax.Array, lengths: jax.Array, references: jax.Array, reference_lengths: jax.Array
) -> jax.Array:
    """Computes the length of the longest common subsequence of each sample and its reference.

    Args:
        samples: i32[B,K,T], token ids of K samples for each of B questions. The ids are 0 or more.
        lengths: i32[B,K], number of tokens in each sample; the rest of T is padding.
        references: i32[B,R], token ids of one reference for each question.
        reference_lengths: i32[B], number of tokens in each reference; the rest of R is padding.

    Returns:
        The lengths i32[B,K]. The recall is a length divided by the length of the reference.
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
        # All arrays are [B,K,R]. `window` has the sample token for each reference token.
        window, last, before = state
        window = shifted(window, token)
        nothing = jnp.zeros_like(token)
        matched = shifted(before, nothing) + (window == wanted).astype(jnp.int32)
        longest = jnp.maximum(jnp.maximum(last, shifted(last, nothing)), matched)
        return (window, longest, last), None

    zeros = jnp.zeros((*samples.shape[:2], size), jnp.int32)
    begin = (jnp.full_like(zeros, _NOT_SAMPLED), zeros, zeros)
    (_, longest, _), _ = jax.lax.scan(diagonal, begin, jnp.moveaxis(samples, -1, 0), unroll=4)
    return longest[..., -1]
