"""The device side of sampling: prefill, first token, decode segment, compaction; pure and jitted.

Axis letters: B grid rows (one question each), K samples in a grid row, P prompt tokens, padded
left, T slots for generated tokens, U steps of one segment, N key/value heads, G query heads a
key/value head, H head_dim, D hidden, V vocabulary. A question's prompt is prefilled once, and its
keys and values are read once a step for all its samples: two products, one softmax. Nothing here
knows text, questions or scores.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.mesh import Layout
from pmc_jax.models.attention import attention, in_window, softcap
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import block, embed, normalise
from pmc_jax.models.rope import rotation
from pmc_jax.sampling.choose import Sampler, choose
from pmc_jax.sampling.weights import SamplingWeights

_MASKED = -1e30


class Prefix(NamedTuple):
    """Prompts, prefilled.

    Attributes:
        keys: per layer [B,N,H,P], rotated, transposed for the product with queries.
        values: per layer [B,N,P,H].
        valid: bool[B,P], False at padding.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    valid: jax.Array


class Generated(NamedTuple):
    """What decoding carries from segment to segment.

    Attributes:
        keys: per layer [B,K,N,H,T].
        values: per layer [B,K,N,T,H].
        last: i32[B,K], the newest token of each sample.
        done: bool[B,K].
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    last: jax.Array
    done: jax.Array


def _vocabulary(weights: SamplingWeights, config: DecoderConfig, layout: Layout, x: jax.Array):
    """[..., D] -> logits f32[..., V]."""
    x = normalise(config, x, weights, "norm")
    logits = jnp.einsum(
        "...d,vd->...v", x, weights.output_embedding, preferred_element_type=jnp.float32
    )
    if (bias := weights.get("head_bias")) is not None:
        logits = logits + bias.astype(jnp.float32)
    logits = softcap(logits, config.logit_softcap)
    return layout.constrain(logits, "rows", *[None] * (logits.ndim - 2), "vocab")


def _embed(weights: SamplingWeights, config, layout: Layout, tokens, positions) -> jax.Array:
    table = weights.rest["embed"]
    x = embed(config, table, weights.get("positions"), tokens, positions, table.dtype)
    return layout.constrain(x, "rows", None, None)


def _rotations(config: DecoderConfig, positions: jax.Array, prompt_length: jax.Array) -> dict:
    """Of every rotary embedding of the model; prompt_length i32[B]."""
    # Of `longrope` a sequence keeps what its prompt began with (`DecoderConfig.longest`).
    ropes = dict.fromkeys(config.rope_of(i) for i in range(config.num_layers))
    return {
        r: rotation(r, config.head_dim, positions, prompt_length[:, None])
        for r in ropes
        if r is not None
    }


@functools.partial(jax.jit, static_argnames=("config", "layout"))
def prefill(
    weights: SamplingWeights,
    tokens: jax.Array,
    valid: jax.Array,
    *,
    config: DecoderConfig,
    layout: Layout,
) -> tuple[Prefix, jax.Array]:
    """Runs the prompts through the model once.

    Args:
        tokens: i32[B,P], left-padded.
        valid: bool[B,P].

    Returns:
        The prefix and the logits f32[B,V] of the first new token.
    """
    size = tokens.shape[1]
    positions = jnp.maximum(jnp.cumsum(valid, axis=1) - 1, 0)
    angles = _rotations(config, positions, jnp.sum(valid, axis=1))
    mask = valid[:, None, :] & jnp.tril(jnp.ones((size, size), bool))
    distance = positions[:, :, None] - positions[:, None, :]
    # One mask a window, not one a layer.
    masks = {w: mask & in_window(distance, w) if w else mask for w in {0, *config.windows}}
    x = _embed(weights, config, layout, tokens, positions)
    keys, values = [], []

    def attend(q, k, v):
        window = config.window(len(keys))
        keys.append(jnp.transpose(k, (0, 2, 3, 1)))
        values.append(jnp.transpose(v, (0, 2, 1, 3)))
        return attention(config, q, k, v, masks[window])

    for i, layer in enumerate(weights.layers):
        rotated = angles.get(config.rope_of(i))
        x = layout.constrain(block(config, layer, x, rotated, attend), "rows", None, None)
    return Prefix(tuple(keys), tuple(values), valid), _vocabulary(weights, config, layout, x[:, -1])


@functools.partial(jax.jit, static_argnames=("sampler", "end_tokens", "slots", "config", "layout"))
def start(
    prefix: Prefix,
    logits: jax.Array,
    rows: jax.Array,
    active: jax.Array,
    uniform: jax.Array,
    *,
    sampler: Sampler,
    end_tokens: tuple[int, ...],
    slots: int,
    config: DecoderConfig,
    layout: Layout,
) -> tuple[Prefix, Generated]:
    """Lays the prefilled prompts out as a grid and draws the first token of every sample.

    Args:
        logits: f32[Q,V] of the Q prefilled prompts.
        rows: i32[B], which prompt each grid row continues.
        active: bool[B,K], False for cells that hold no sample.
        uniform: f32[B,K].
        slots: T.
    """
    b, k = active.shape
    spread = jnp.repeat(logits[rows], k, axis=0)
    first = choose(spread, uniform.reshape(-1), sampler).reshape(b, k)
    done = ~active | jnp.isin(first, jnp.asarray(end_tokens))
    dtype, n, h = prefix.values[0].dtype, config.num_kv_heads, config.head_dim

    def empty(*shape):
        # Distinct buffers: the decode segment donates each of them.
        axes = ("rows", None, "kv_heads", None, None)
        return layout.constrain(jnp.zeros(shape, dtype), *axes)

    keys = tuple(empty(b, k, n, h, slots) for _ in prefix.keys)
    values = tuple(empty(b, k, n, slots, h) for _ in prefix.keys)
    return _take_prefix(prefix, rows, layout), Generated(keys, values, first, done)


def _take_prefix(prefix: Prefix, rows: jax.Array, layout: Layout) -> Prefix:
    def take(x):
        axes = ("rows", "kv_heads", None, None) if x.ndim == 4 else ("rows", None)
        return layout.constrain(x[rows], *axes)

    return jax.tree.map(take, prefix)


@functools.partial(jax.jit, static_argnames=("layout",))
def compact(
    prefix: Prefix,
    generated: Generated,
    rows: jax.Array,
    cells: jax.Array,
    active: jax.Array,
    *,
    layout: Layout,
) -> tuple[Prefix, Generated]:
    """Moves the samples that still decode into a smaller grid.

    Args:
        rows: i32[B'], the old grid row whose prompt each new row continues.
        cells: i32[B',K'], flat index b * K + k of the old cell.
        active: bool[B',K'], False for cells that hold no sample.
    """

    def take(x):
        flat = x.reshape(-1, *x.shape[2:])
        axes = ("rows", None, "kv_heads", None, None)[: x.ndim]
        return layout.constrain(flat[cells], *axes)

    moved = jax.tree.map(take, generated)
    return _take_prefix(prefix, rows, layout), moved._replace(done=moved.done | ~active)


@functools.partial(
    jax.jit,
    static_argnames=("sampler", "end_tokens", "config", "layout"),
    donate_argnames=("generated",),
)
def decode(
    weights: SamplingWeights,
    prefix: Prefix,
    generated: Generated,
    uniform: jax.Array,
    begin: jax.Array,
    end: jax.Array,
    *,
    sampler: Sampler,
    end_tokens: tuple[int, ...],
    config: DecoderConfig,
    layout: Layout,
) -> tuple[Generated, jax.Array]:
    """Decodes one segment, or less when every sample is done.

    `generated` is donated: its cache is updated in place.

    Args:
        uniform: f32[U,B,K], the draws of this segment.
        begin, end: i32, the first and one past the last generated position of the segment,
            counted from 0 = the first new token; end - begin <= U.

    Returns:
        The new state, and the tokens i32[U,B,K]: -1 where a sample was already done or the step
        did not run.
    """
    b, k = generated.last.shape
    n, g, h = config.num_kv_heads, config.group_size, config.head_dim
    lengths = jnp.sum(prefix.valid, axis=1)
    from_end = lengths[:, None] - (jnp.cumsum(prefix.valid, axis=1) - 1)  # of each prompt token
    slot_index = jnp.arange(generated.values[0].shape[3])

    def step(carry):
        position, state, tokens = carry
        slot = position - 1  # of the token that is fed now
        positions = jnp.broadcast_to(lengths[:, None] + slot, (b, k))
        x = _embed(weights, config, layout, state.last, positions)
        angles = _rotations(config, positions, lengths)
        biases = {}
        for w in {0, *config.windows}:
            old = prefix.valid & in_window(from_end + slot, w)
            new = (slot_index <= slot) & in_window(slot - slot_index, w)
            biases[w] = tuple(jnp.where(seen, 0.0, _MASKED) for seen in (old, new))
        keys, values = [], []

        def attend(q, new_key, new_value):
            i = len(keys)
            at = (0, 0, 0, 0, slot)
            keys.append(jax.lax.dynamic_update_slice(state.keys[i], new_key[..., None], at))
            at = (0, 0, 0, slot, 0)
            values.append(
                jax.lax.dynamic_update_slice(state.values[i], new_value[..., None, :], at)
            )
            old_bias, new_bias = biases[config.window(i)]
            q = q.reshape(b, k, n, g, h) * config.score_scale
            wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
            old = softcap(wide("bkngh,bnhp->bkngp", q, prefix.keys[i]), config.attention_softcap)
            new = softcap(wide("bkngh,bknht->bkngt", q, keys[i]), config.attention_softcap)
            old, new = old + old_bias[:, None, None, None, :], new + new_bias
            peak = jnp.maximum(jnp.max(old, -1, keepdims=True), jnp.max(new, -1, keepdims=True))
            old, new = jnp.exp(old - peak), jnp.exp(new - peak)
            total = jnp.sum(old, -1, keepdims=True) + jnp.sum(new, -1, keepdims=True)
            out = wide("bkngp,bnph->bkngh", old.astype(x.dtype), prefix.values[i])
            out += wide("bkngt,bknth->bkngh", new.astype(x.dtype), values[i])
            return (out / total).astype(x.dtype).reshape(b, k, n * g, h)

        for i, layer in enumerate(weights.layers):
            rotated = angles.get(config.rope_of(i))
            x = layout.constrain(block(config, layer, x, rotated, attend), "rows", None, None)
        logits = _vocabulary(weights, config, layout, x).reshape(b * k, -1)
        draw = uniform[position - begin].reshape(-1)
        token = choose(logits, draw, sampler).reshape(b, k)
        tokens = tokens.at[position - begin].set(jnp.where(state.done, -1, token))
        done = state.done | jnp.isin(token, jnp.asarray(end_tokens))
        return position + 1, Generated(tuple(keys), tuple(values), token, done), tokens

    def running(carry):
        position, state, _ = carry
        return (position < end) & ~jnp.all(state.done)

    tokens = jnp.full(uniform.shape, -1, jnp.int32)
    _, generated, tokens = jax.lax.while_loop(running, step, (begin, generated, tokens))
    return generated, tokens
