"""Prefill of prompts as a pure, jitted function, with helpers that decoding shares.

Axis letters: B prompts, P tokens per prompt, O tokens of the prefix that all prompts share, N
key/value heads, H head_dim, D hidden, V vocabulary.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import attention, in_window, softcap
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import block, embed, normalise
from pmc_jax.models.rope import rotation
from pmc_jax.sampling.snapshot import SamplingWeights, product


class PromptCache(NamedTuple):
    """Keys and values of prompts. The docstring of the module defines the axis letters.

    Attributes:
        keys: one array [B,N,H,P] per layer, rotated and transposed for the product with queries.
        values: one array [B,N,P,H] per layer.
        valid: bool[B,P], False at padding.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    valid: jax.Array


def vocabulary(
    weights: SamplingWeights, config: DecoderConfig, layout: Layout, x: jax.Array
) -> jax.Array:
    """Computes the logits f32[...,V] from the output [...,D] of the last layer.

    V is the size of the vocabulary, and D is the number of channels.
    """
    x = normalise(config, x, weights, "norm")
    logits = product(x, weights.output_embedding, dtype=jnp.float32)
    if (bias := weights.get("head_bias")) is not None:
        logits = logits + bias.astype(jnp.float32)
    logits = softcap(logits, config.logit_softcap)
    return layout.constrain(logits, "rows", *[None] * (logits.ndim - 2), "vocab")


def embed_tokens(
    weights: SamplingWeights,
    config: DecoderConfig,
    layout: Layout,
    tokens: jax.Array,
    positions: jax.Array,
) -> jax.Array:
    """Embeds token ids i32[...] at their positions. Returns [...,D] in the dtype of the weights."""
    table = weights.rest["embed"]
    x = embed(config, table, weights.get("positions"), tokens, positions, table.dtype)
    return layout.constrain(x, "rows", *[None] * (x.ndim - 1))


def rotations(config: DecoderConfig, positions: jax.Array, prompt_length: jax.Array) -> dict:
    """Computes the cosines and sines of every rotary embedding of the model.

    Args:
        positions: i32[B,...], positions of tokens of each of B prompts or of its answers.
        prompt_length: i32[B], number of tokens in each prompt.

    Returns:
        A dict from rotary embedding to its cosines and sines, as `rotation` returns them.
    """
    # With `longrope`, a sequence keeps the factors for its prompt length, see
    # `DecoderConfig.longest`.
    ropes = dict.fromkeys(config.rope_of(i) for i in range(config.num_layers))
    return {
        r: rotation(r, config.head_dim, positions, prompt_length[:, None])
        for r in ropes
        if r is not None
    }


@functools.partial(jax.jit, static_argnames=("config", "layout", "cache_dtype"))
def prefill(
    weights: SamplingWeights,
    shared_prefix: jax.Array,
    tokens: jax.Array,
    valid: jax.Array,
    *,
    config: DecoderConfig,
    layout: Layout,
    cache_dtype: jnp.dtype | None = None,
) -> tuple[PromptCache, jax.Array]:
    """Runs prompts through the model once. Their shared prefix runs as a single row.

    The docstring of the module defines the axis letters.

    Args:
        shared_prefix: i32[O], token ids that every prompt begins with; may be empty.
        tokens: i32[B,P - O], token ids of each prompt after the prefix, left-padded.
        valid: bool[B,P - O], False at padding.
        cache_dtype: dtype of keys and values in the cache; None = dtype of the activations.

    Returns:
        The cache of the prompts, and the logits f32[B,V] of the first new token.
    """
    skip, (rows, size) = len(shared_prefix), tokens.shape
    positions = skip + jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)
    lengths = skip + jnp.sum(valid, axis=1)
    first = jnp.arange(skip)[None]
    angles = rotations(config, positions, lengths)
    prefix_angles = rotations(config, first, jnp.max(lengths)[None])
    valid = jnp.concatenate([jnp.ones((rows, skip), bool), valid], axis=1)
    mask = valid[:, None, :] & jnp.tril(jnp.ones((size, skip + size), bool), skip)
    back = jnp.concatenate([jnp.broadcast_to(first, (rows, skip)), positions], axis=1)
    distance = positions[:, :, None] - back[:, None, :]
    prefix_distance = first[:, :, None] - first[:, None, :]
    # Layers with the same window share a mask.
    windows = {0, *config.windows}
    masks = {w: mask & in_window(distance, w) if w else mask for w in windows}
    prefix_masks = {w: (prefix_distance >= 0) & in_window(prefix_distance, w) for w in windows}
    x = embed_tokens(weights, config, layout, tokens, positions)
    y = embed_tokens(weights, config, layout, shared_prefix[None], first)
    keys, values = [], []

    def attend(q, k, v):
        window = config.window(len(keys))
        if skip:
            k, v = (
                jnp.concatenate([jnp.broadcast_to(common, (rows, *common.shape[1:])), own], axis=1)
                for common, own in zip(prefix_kv, (k, v), strict=True)
            )
        keys.append(jnp.transpose(k, (0, 2, 3, 1)).astype(cache_dtype or k.dtype))
        values.append(jnp.transpose(v, (0, 2, 1, 3)).astype(cache_dtype or v.dtype))
        return attention(config, q, k, v, masks[window])

    def attend_prefix(q, k, v):
        prefix_kv.extend((k, v))
        return attention(config, q, k, v, prefix_masks[config.window(len(keys))])

    for i, layer in enumerate(weights.layers):
        rope, prefix_kv = config.rope_of(i), []
        if skip:
            y = block(config, layer, y, prefix_angles.get(rope), attend_prefix)
        x = block(config, layer, x, angles.get(rope), attend)
        x = layout.constrain(x, "rows", None, None)
    cache = PromptCache(tuple(keys), tuple(values), valid)
    return cache, vocabulary(weights, config, layout, x[:, -1])
