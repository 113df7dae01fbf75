"""Decoding on the device as pure, jitted functions: first tokens, decode steps and compaction.

Axis letters: B rows of the decode batch (one question per row), K slots per row (one sample per
slot), S = B K slots in total, P prompt tokens (left-padded), T cache entries for generated tokens,
U steps of one call, N key/value heads, G query heads per key/value head, H head_dim, D hidden, V
vocabulary. The axis `draws` has the random numbers for one token (`Sampler.draws`).

The prompt of a question is prefilled once. Each step reads the prompt's keys and values once for
all slots of the row, with two products and one softmax.

In each step, all slots write to the same cache entry, so a step needs only one in-place update. The
entries form a ring buffer. A sample with n tokens in the cache attends to the n newest entries, so
samples can start and end at any step. This module handles no text, questions or scores.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import in_window, softcap
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import block
from pmc_jax.sampling.prefill import PromptCache, embed_tokens, rotations, vocabulary
from pmc_jax.sampling.sampler import Sampler, sample_tokens
from pmc_jax.sampling.snapshot import SamplingWeights

_MASKED = -1e30


class GeneratedCache(NamedTuple):
    """Keys and values of the generated tokens.

    The docstring of the module defines the axis letters.

    Attributes:
        keys: one array [S,N,H,T] per layer.
        values: one array [S,N,T,H] per layer.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


class Slots(NamedTuple):
    """State of the sample in each slot, for B rows with K slots each.

    Attributes:
        last: i32[B,K], newest token of the sample, which is not yet fed to the model.
        age: i32[B,K], number of tokens generated so far.
        left: i32[B,K], number of tokens that the sample may still generate; 0 or less = idle slot.
    """

    last: jax.Array
    age: jax.Array
    left: jax.Array


@functools.partial(jax.jit, static_argnames=("sampler", "layout"))
def sample_first_tokens(
    logits: jax.Array, uniform: jax.Array, *, sampler: Sampler, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Draws the first token of K samples for each of Q questions.

    Args:
        logits: f32[Q,V], logits over the vocabulary.
        uniform: f32[Q,K,draws], random numbers in [0, 1); `draws` is `sampler.draws`.

    Returns:
        The token ids i32[Q,K] and their negative log-probabilities f32[Q,K], see `decode`. Both are
        replicated on every device.
    """
    repeated = jnp.repeat(logits, uniform.shape[1], axis=0)
    tokens = sample_tokens(repeated, uniform.reshape(-1, uniform.shape[2]), sampler)
    nll = _token_nll(repeated, tokens, sampler)
    return tuple(layout.constrain(x.reshape(uniform.shape[:2]), None, None) for x in (tokens, nll))


def _token_nll(logits: jax.Array, tokens: jax.Array, sampler: Sampler) -> jax.Array:
    """Computes the negative log-probabilities f32[R] of R tokens at temperature 1.

    The results are 0 if the sampler does not return log-probabilities. `logits` are f32[R,V].
    """
    if not sampler.return_logprobs:
        return jnp.zeros(tokens.shape, jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


@functools.partial(jax.jit, static_argnames=("slots", "cache_size", "layout"))
def start_batch(
    prompts: PromptCache, rows: jax.Array, *, slots: int, cache_size: int, layout: Layout
) -> tuple[PromptCache, GeneratedCache]:
    """Creates the caches of a decode batch: the prompt of each row, and an empty cache per slot.

    Args:
        prompts: cache of the prefilled prompts.
        rows: i32[B], index in `prompts` of the prompt that each of the B rows continues.
        slots: number of slots per row.
        cache_size: number of generated tokens that the cache of a slot holds.
    """
    n, h, b = *prompts.keys[0].shape[1:3], rows.shape[0]

    def empty(*shape):
        # The buffers must be distinct, because decoding donates each of them.
        empty = jnp.zeros(shape, prompts.values[0].dtype)
        return layout.constrain(empty, "rows", "kv_heads", None, None)

    keys = tuple(empty(b * slots, n, h, cache_size) for _ in prompts.keys)
    values = tuple(empty(b * slots, n, cache_size, h) for _ in prompts.keys)
    return _select_prompts(prompts, rows, layout), GeneratedCache(keys, values)


def _select_prompts(prompts: PromptCache, rows: jax.Array, layout: Layout) -> PromptCache:
    return _constrain_prompts(jax.tree.map(lambda x: x[rows], prompts), layout)


def _constrain_prompts(prompts: PromptCache, layout: Layout) -> PromptCache:
    def pin(x):
        axes = ("rows", "kv_heads", None, None) if x.ndim == 4 else ("rows", None)
        return layout.constrain(x, *axes)

    return jax.tree.map(pin, prompts)


@functools.partial(jax.jit, static_argnames=("layout",), donate_argnames=("prompts",))
def load_prompt(
    prompts: PromptCache, source: PromptCache, row: jax.Array, index: jax.Array, *, layout: Layout
) -> PromptCache:
    """Copies the prompt `index` of `source` into the row `row` of `prompts`.

    The buffers of `prompts` are donated.
    """

    def put(x, new):
        return jax.lax.dynamic_update_index_in_dim(x, new[index], row, 0)

    return _constrain_prompts(jax.tree.map(put, prompts, source), layout)


@functools.partial(jax.jit, static_argnames=("layout",))
def compact_batch(
    prompts: PromptCache,
    cache: GeneratedCache,
    rows: jax.Array,
    slots: jax.Array,
    *,
    layout: Layout,
) -> tuple[PromptCache, GeneratedCache]:
    """Moves active samples from B rows of K slots to a smaller batch of B' rows with K' slots.

    Args:
        prompts, cache: caches of the larger batch.
        rows: i32[B'], index of the old row whose prompt each new row continues.
        slots: i32[B',K'], flat index b * K + k of the old slot that each new slot continues.
    """

    def select(x):
        return layout.constrain(x[slots.reshape(-1)], "rows", "kv_heads", None, None)

    return _select_prompts(prompts, rows, layout), jax.tree.map(select, cache)


@functools.partial(
    jax.jit,
    static_argnames=("sampler", "end_tokens", "config", "layout"),
    donate_argnames=("cache",),
)
def decode(
    weights: SamplingWeights,
    prompts: PromptCache,
    cache: GeneratedCache,
    slots: Slots,
    uniform: jax.Array,
    steps_run: jax.Array,
    stop_when_active: jax.Array,
    *,
    sampler: Sampler,
    end_tokens: tuple[int, ...],
    config: DecoderConfig,
    layout: Layout,
) -> tuple[GeneratedCache, jax.Array, jax.Array]:
    """Runs up to U decode steps, and stops when at most `stop_when_active` slots are active.

    The docstring of the module defines the axis letters. `cache` is donated and updated in place.

    Args:
        uniform: f32[U,B,K,draws], random numbers in [0, 1) for the U steps.
        steps_run: i32, number of steps run since `start_batch`.
        stop_when_active: i32, number of active slots at which decoding stops, at least 0.

    Returns:
        The cache, the token ids i32[U,B,K], and their negative log-probabilities f32[U,B,K] at
        temperature 1 over the full vocabulary. A token id is -1 if the slot was idle or the step
        did not run. The log-probabilities are 0 if the sampler does not return them. The last two
        arrays are replicated on every device.
    """
    b, k = slots.last.shape
    lengths = jnp.sum(prompts.valid, axis=1)
    # `distance` counts the tokens from each prompt token to the first generated token.
    distance = lengths[:, None] - (jnp.cumsum(prompts.valid, axis=1) - 1)
    cache_size, static = cache.values[0].shape[2], {"config": config, "layout": layout}

    def step(carry):
        number, cache, slots, tokens, nll = carry
        entry = (steps_run + number) % cache_size
        cache, logits = _feed(weights, prompts, cache, slots, entry, lengths, distance, **static)
        draws, age = uniform[number].reshape(b * k, -1), slots.age.reshape(-1)
        token = sample_tokens(logits, draws, sampler, age)
        nll = nll.at[number].set(_token_nll(logits, token, sampler).reshape(b, k))
        token = token.reshape(b, k)
        decoded = slots.left > 0
        tokens = tokens.at[number].set(jnp.where(decoded, token, -1))
        ends = jnp.isin(token, jnp.asarray(end_tokens))
        one = decoded.astype(jnp.int32)
        slots = Slots(token, slots.age + one, jnp.where(ends, 0, slots.left - one))
        return number + 1, cache, slots, tokens, nll

    def running(carry):
        number, _, slots, *_ = carry
        return (number < uniform.shape[0]) & (jnp.sum(slots.left > 0) > stop_when_active)

    tokens = jnp.full(uniform.shape[:3], -1, jnp.int32)
    carry = (jnp.int32(0), cache, slots, tokens, jnp.zeros(tokens.shape, jnp.float32))
    _, cache, _, tokens, nll = jax.lax.while_loop(running, step, carry)
    return cache, *(layout.constrain(x, None, None, None) for x in (tokens, nll))


def _feed(
    weights: SamplingWeights,
    prompts: PromptCache,
    cache: GeneratedCache,
    slots: Slots,
    entry: jax.Array,
    lengths: jax.Array,
    distance: jax.Array,
    *,
    config: DecoderConfig,
    layout: Layout,
) -> tuple[GeneratedCache, jax.Array]:
    """Runs the newest token of every slot through the model.

    The docstring of the module defines the axis letters.

    Args:
        entry: i32, index of the cache entry to which the keys and values are written.
        lengths: i32[B], number of tokens in each prompt.
        distance: i32[B,P], distance in tokens from each prompt token to the first generated token.

    Returns:
        The updated cache, and the logits f32[S,V].
    """
    b, k = slots.last.shape
    positions = lengths[:, None] + slots.age - 1
    x = embed_tokens(weights, config, layout, slots.last.reshape(-1), positions.reshape(-1))
    angles = rotations(config, positions, lengths)
    angles = {r: tuple(a.reshape(b * k, -1) for a in pair) for r, pair in angles.items()}
    cache_size = cache.values[0].shape[2]
    back = (entry - jnp.arange(cache_size)) % cache_size
    windows = {0, *config.windows}
    biases = {w: _biases(prompts.valid, distance, slots.age, back, w) for w in windows}
    keys, values = [], []

    def attend(q, key, value):
        i = len(keys)
        key, value = (new.astype(cache.keys[i].dtype) for new in (key, value))
        start = (0, 0, 0, entry)
        keys.append(jax.lax.dynamic_update_slice(cache.keys[i], key[..., None], start))
        start = (0, 0, entry, 0)
        values.append(jax.lax.dynamic_update_slice(cache.values[i], value[..., None, :], start))
        prompt, generated = (prompts.keys[i], prompts.values[i]), (keys[i], values[i])
        return _attention(q, prompt, generated, biases[config.window(i)], config, layout)

    for i, layer in enumerate(weights.layers):
        rotated = angles.get(config.rope_of(i))
        x = layout.constrain(block(config, layer, x, rotated, attend), "rows", None)
    return GeneratedCache(tuple(keys), tuple(values)), vocabulary(weights, config, layout, x)


def _biases(
    valid: jax.Array, distance: jax.Array, age: jax.Array, back: jax.Array, window: int
) -> tuple[jax.Array, jax.Array]:
    """Computes attention biases: 0 for a visible token, `_MASKED` for a hidden token.

    The docstring of the module defines the axis letters.

    Args:
        valid: bool[B,P], False at padding of the prompts.
        distance: i32[B,P], distance in tokens from each prompt token to the first generated token.
        age: i32[B,K], number of tokens generated so far in each slot.
        back: i32[T], number of steps between each cache entry and the newest entry.
        window: attention window of the layer in tokens; 0 = no limit.

    Returns:
        The biases f32[S,1,1,P] of the prompt tokens and f32[S,1,1,T] of the generated tokens.
    """
    b, k = age.shape
    new = (back < age[..., None]) & in_window(back, window)
    old = jnp.broadcast_to(valid[:, None], (b, k, valid.shape[1]))
    if window:
        old = old & in_window(distance[:, None] + age[..., None] - 1, window)
    flat = (seen.reshape(b * k, 1, 1, -1) for seen in (old, new))
    return tuple(jnp.where(seen, 0.0, _MASKED) for seen in flat)


def _attention(
    q: jax.Array,
    prompt: tuple[jax.Array, jax.Array],
    generated: tuple[jax.Array, jax.Array],
    biases: tuple[jax.Array, jax.Array],
    config: DecoderConfig,
    layout: Layout,
) -> jax.Array:
    """Computes attention with one softmax over the prompt of the row and the tokens of the slot.

    The docstring of the module defines the axis letters.

    Args:
        q: [S,NG,H], queries of the newest tokens.
        prompt: keys [B,N,H,P] and values [B,N,P,H] of the prompt tokens.
        generated: keys [S,N,H,T] and values [S,N,T,H] of the generated tokens.
        biases: biases of the prompt tokens and of the generated tokens, as `_biases` returns them.

    Returns:
        The attention outputs [S,NG,H].
    """
    n, g, h = config.num_kv_heads, config.group_size, config.head_dim
    b, s, dtype = len(prompt[0]), len(q), q.dtype
    q = q.reshape(s, n, g, h) * config.score_scale

    def product(equation, x, y):
        y = y.astype(x.dtype)
        return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)

    def row_product(x, y):
        """Multiplies [S,N,G,I] by [B,N,I,J] over I, with one product for all slots of a row."""
        # The slots are grouped explicitly. With a single einsum, XLA on CPU is ten times slower.
        k = s // b
        rows = jnp.moveaxis(x.reshape(b, k, n, g, -1), 1, 2).reshape(b, n, k * g, -1)
        out = product("bnmi,bnij->bnmj", rows, y).reshape(b, n, k, g, -1)
        # Without both constraints, the partitioner would move slots between devices.
        out = layout.constrain(out, "rows", "kv_heads", None, None, None)
        out = jnp.moveaxis(out, 2, 1)
        out = layout.constrain(out, "rows", None, "kv_heads", None, None)
        return out.reshape(s, n, g, -1)

    old = softcap(row_product(q, prompt[0]), config.attention_softcap)
    new = softcap(product("sngh,snht->sngt", q, generated[0]), config.attention_softcap)
    old, new = old + biases[0], new + biases[1]
    peak = jnp.maximum(jnp.max(old, -1, keepdims=True), jnp.max(new, -1, keepdims=True))
    old, new = jnp.exp(old - peak), jnp.exp(new - peak)
    total = jnp.sum(old, -1, keepdims=True) + jnp.sum(new, -1, keepdims=True)
    out = row_product(old.astype(dtype), prompt[1])
    out += product("sngt,snth->sngh", new.astype(dtype), generated[1])
    return (out / total).astype(dtype).reshape(s, n * g, h)
