"""The device side of decoding: first tokens, decode steps and compaction; pure and jitted.

Axis letters: B rows of the decode batch (one question each), K slots per row (one sample each),
S = B K slots in total, P prompt tokens, left-padded, T entries of the cache of generated tokens, U
steps of one call, N key/value heads, G query heads per key/value head, H head_dim, D hidden, V
vocabulary. A question's prompt is prefilled once, and each step reads its keys and values once for
all slots of its row: two products, one softmax.

In each step all slots write to the same entry of the cache, so the step needs one update in place.
The entries are a ring buffer, and a slot attends to as many of the newest entries as it has fed
tokens; so samples can start and end at any step. Nothing here knows text, questions or scores.
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
    """Keys and values of generated tokens.

    Attributes:
        keys: per layer [S,N,H,T].
        values: per layer [S,N,T,H].
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


class Slots(NamedTuple):
    """The state of the sample in each slot.

    Attributes:
        last: i32[B,K], its newest token, not fed to the model yet.
        age: i32[B,K], number of tokens generated so far.
        left: i32[B,K], number of tokens that it may still generate; 0 or less = idle.
    """

    last: jax.Array
    age: jax.Array
    left: jax.Array


@functools.partial(jax.jit, static_argnames=("sampler", "layout"))
def sample_first_tokens(
    logits: jax.Array, uniform: jax.Array, *, sampler: Sampler, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Draws the first token of every sample.

    Args:
        logits: f32[Q,V], of Q questions.
        uniform: f32[Q,K,draws], random numbers in [0, 1).

    Returns:
        The tokens i32[Q,K] and their negative log-probabilities f32[Q,K], see `decode`; replicated
        on every device.
    """
    repeated = jnp.repeat(logits, uniform.shape[1], axis=0)
    tokens = sample_tokens(repeated, uniform.reshape(-1, uniform.shape[2]), sampler)
    nll = _token_nll(repeated, tokens, sampler)
    return tuple(layout.constrain(x.reshape(uniform.shape[:2]), None, None) for x in (tokens, nll))


def _token_nll(logits: jax.Array, tokens: jax.Array, sampler: Sampler) -> jax.Array:
    """Negative log-probability f32[R] of tokens i32[R] at temperature 1; 0 if the sampler does not
    return log-probabilities.
    """
    if not sampler.return_logprobs:
        return jnp.zeros(tokens.shape, jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


@functools.partial(jax.jit, static_argnames=("slots", "cache_size", "layout"))
def start_batch(
    prompts: PromptCache, rows: jax.Array, *, slots: int, cache_size: int, layout: Layout
) -> tuple[PromptCache, GeneratedCache]:
    """Makes a decode batch of B rows x `slots` with an empty cache of T = `cache_size` entries.

    Args:
        rows: i32[B], index of the prompt that each row continues.
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
    """Writes prompt `index` of `source` to row `row` in place; `prompts` is donated."""

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
    """Moves the active samples into a smaller batch.

    Args:
        rows: i32[B'], the old row whose prompt each new row continues.
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
    """Decodes U steps, or fewer if at most `stop_when_active` slots remain active.

    `cache` is donated and updated in place.

    Args:
        uniform: f32[U,B,K,draws], random numbers in [0, 1) of these steps.
        steps_run: i32, number of steps run since `start_batch`.
        stop_when_active: i32, at least 0.

    Returns:
        The cache; the tokens i32[U,B,K], -1 where a slot was idle or the step did not run; and
        their negative log-probabilities f32[U,B,K] at temperature 1 over the full vocabulary, 0 if
        the sampler does not return them. The last two are replicated on every device.
    """
    b, k = slots.last.shape
    lengths = jnp.sum(prompts.valid, axis=1)
    # Distance from each prompt token to the first generated one.
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

    Args:
        entry: i32, cache entry to which the keys and values are written.
        lengths: i32[B], tokens of each prompt.
        distance: i32[B,P], tokens from each prompt token to the first generated one.

    Returns:
        The cache and the logits f32[S,V].
    """
    b, k = slots.last.shape
    positions = lengths[:, None] + slots.age - 1  # of the tokens that are fed now
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
    """Attention biases: 0 where a token is visible, else `_MASKED`.

    Args:
        valid, distance: [B,P], see `PromptCache` and `_feed`.
        age: i32[B,K], see `Slots`.
        back: i32[T], distance of each cache entry from the newest one.

    Returns:
        f32[S,1,1,P] for prompt tokens, and f32[S,1,1,T] for generated ones.
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
    """Attention with one softmax over the prompt of the row and the tokens of the slot.

    Args:
        q: [S,NG,H], queries of the newest tokens.
        prompt: keys [B,N,H,P] and values [B,N,P,H].
        generated: keys [S,N,H,T] and values [S,N,T,H].
        biases: see `_biases`.

    Returns:
        [S,NG,H].
    """
    n, g, h = config.num_kv_heads, config.group_size, config.head_dim
    b, s, dtype = len(prompt[0]), len(q), q.dtype
    q = q.reshape(s, n, g, h) * config.score_scale

    def product(equation, x, y):
        y = y.astype(x.dtype)
        return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)

    def row_product(x, y):
        """[S,N,G,I] x [B,N,I,J] -> [S,N,G,J], one product for all slots of a row."""
        # Grouped explicitly: with a single einsum XLA on CPU is ten times slower.
        k = s // b
        rows = jnp.moveaxis(x.reshape(b, k, n, g, -1), 1, 2).reshape(b, n, k * g, -1)
        out = product("bnmi,bnij->bnmj", rows, y).reshape(b, n, k, g, -1)
        # Pinned on both sides, or else the partitioner would move slots between devices.
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
