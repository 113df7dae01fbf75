"""Attention of whole rows. One new token against a cache is in `pmc_jax.sampling.decode`."""

import jax
import jax.numpy as jnp

from pmc_jax.models.config import DecoderConfig


def attention(
    config: DecoderConfig, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array
) -> jax.Array:
    """Softmax attention, reduced in float32, with the family's scale and cap on the scores.

    Args:
        q: [B,S,N*G,H].
        k, v: [B,T,N,H].
        mask: bool[B,S,T] or [1,S,T], True = seen.

    Returns:
        [B,S,N*G,H] in the dtype of `v`.
    """
    if config.attention_softcap is None:
        return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], scale=config.score_scale)
    grouped = q.reshape(*q.shape[:2], config.num_kv_heads, config.group_size, config.head_dim)
    scores = jnp.einsum("bsngh,btnh->bngst", grouped, k, preferred_element_type=jnp.float32)
    scores = softcap(scores * config.score_scale, config.attention_softcap)
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bngst,btnh->bsngh", weights, v).reshape(q.shape)


def softcap(x: jax.Array, cap: float | None) -> jax.Array:
    """c * tanh(x / c): never beyond +-c (Gemma 2, arXiv 2408.00118); None = x."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def in_window(distance: jax.Array, window: jax.Array | int) -> jax.Array:
    """Whether a key `distance` tokens back is seen; a window of 0 sees all."""
    return (distance < window) | (jnp.asarray(window) == 0)
