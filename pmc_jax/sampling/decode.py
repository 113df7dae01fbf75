"""The device side of decoding: first tokens, the grid, segments, compaction; pure, jitted.

Axis letters: B grid rows (one question each), K cells in a grid row (one sample each), C = B K
cells in all, P prompt tokens, padded left, T slots for generated tokens, U steps of one segment, N
key/value heads, G query heads a key/value head, H head_dim, D hidden, V vocabulary. A question's
prompt is prefilled once, and its keys and values are read once a step for all cells of its row: two
products, one softmax.

All cells write into the same slot of the cache at a step, which makes it one update in place; the
slots are a ring, and a cell sees as many of the newest ones as it has fed tokens. So samples begin
and end at any step. Nothing here knows text, questions or scores.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import in_window, softcap
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import block
from pmc_jax.sampling.prefill import Prefix, embed_tokens, rotations, vocabulary
from pmc_jax.sampling.sampler import Sampler, choose
from pmc_jax.sampling.snapshot import SamplingWeights

_MASKED = -1e30


class Cache(NamedTuple):
    """Keys and values of generated tokens.

    Attributes:
        keys: per layer [C,N,H,T].
        values: per layer [C,N,T,H].
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


class Cells(NamedTuple):
    """What each cell is at.

    Attributes:
        last: i32[B,K], its newest token, not fed yet.
        age: i32[B,K], tokens that it has generated.
        left: i32[B,K], tokens that it may still generate; 0 or less = it does not decode.
    """

    last: jax.Array
    age: jax.Array
    left: jax.Array


@functools.partial(jax.jit, static_argnames=("sampler", "layout"))
def first_tokens(
    logits: jax.Array, uniform: jax.Array, *, sampler: Sampler, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Draws the first token of every sample: logits f32[Q,V], uniform f32[Q,K,draws] -> i32[Q,K],
    and their nats f32[Q,K] as of `decode`, whole on every device.
    """
    spread = jnp.repeat(logits, uniform.shape[1], axis=0)
    tokens = choose(spread, uniform.reshape(-1, uniform.shape[2]), sampler)
    nats = _nats(spread, tokens, sampler)
    return tuple(layout.constrain(x.reshape(uniform.shape[:2]), None, None) for x in (tokens, nats))


def _nats(logits: jax.Array, tokens: jax.Array, sampler: Sampler) -> jax.Array:
    """Negative log-probability f32[R] of tokens i32[R] at temperature 1, 0 where the sampler does
    not return them.
    """
    if not sampler.return_logprobs:
        return jnp.zeros(tokens.shape, jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


@functools.partial(jax.jit, static_argnames=("cells", "slots", "layout"))
def start(
    prefix: Prefix, rows: jax.Array, *, cells: int, slots: int, layout: Layout
) -> tuple[Prefix, Cache]:
    """A grid of B rows x `cells` and T = `slots`; rows: i32[B], which prompt each row continues."""
    n, h, b = *prefix.keys[0].shape[1:3], rows.shape[0]

    def empty(*shape):
        # Distinct buffers: decoding donates each of them.
        empty = jnp.zeros(shape, prefix.values[0].dtype)
        return layout.constrain(empty, "rows", "kv_heads", None, None)

    keys = tuple(empty(b * cells, n, h, slots) for _ in prefix.keys)
    values = tuple(empty(b * cells, n, slots, h) for _ in prefix.keys)
    return _take_prefix(prefix, rows, layout), Cache(keys, values)


def _take_prefix(prefix: Prefix, rows: jax.Array, layout: Layout) -> Prefix:
    return _constrain_prefix(jax.tree.map(lambda x: x[rows], prefix), layout)


def _constrain_prefix(prefix: Prefix, layout: Layout) -> Prefix:
    def pin(x):
        axes = ("rows", "kv_heads", None, None) if x.ndim == 4 else ("rows", None)
        return layout.constrain(x, *axes)

    return jax.tree.map(pin, prefix)


@functools.partial(jax.jit, static_argnames=("layout",), donate_argnames=("prefix",))
def place(
    prefix: Prefix, source: Prefix, row: jax.Array, index: jax.Array, *, layout: Layout
) -> Prefix:
    """Puts prompt `index` of `source` into row `row`, in place: `prefix` is donated."""

    def put(x, new):
        return jax.lax.dynamic_update_index_in_dim(x, new[index], row, 0)

    return _constrain_prefix(jax.tree.map(put, prefix, source), layout)


@functools.partial(jax.jit, static_argnames=("layout",))
def compact(
    prefix: Prefix, cache: Cache, rows: jax.Array, cells: jax.Array, *, layout: Layout
) -> tuple[Prefix, Cache]:
    """Moves the samples that still decode into a smaller grid.

    Args:
        rows: i32[B'], the old grid row whose prompt each new row continues.
        cells: i32[B',K'], flat index b * K + k of the old cell.
    """

    def take(x):
        return layout.constrain(x[cells.reshape(-1)], "rows", "kv_heads", None, None)

    return _take_prefix(prefix, rows, layout), jax.tree.map(take, cache)


@functools.partial(
    jax.jit,
    static_argnames=("sampler", "end_tokens", "config", "layout"),
    donate_argnames=("cache",),
)
def decode(
    weights: SamplingWeights,
    prefix: Prefix,
    cache: Cache,
    cells: Cells,
    uniform: jax.Array,
    time: jax.Array,
    enough: jax.Array,
    *,
    sampler: Sampler,
    end_tokens: tuple[int, ...],
    config: DecoderConfig,
    layout: Layout,
) -> tuple[Cache, jax.Array, jax.Array]:
    """Decodes one segment, or less when no more than `enough` cells still decode.

    `cache` is donated: it is updated in place.

    Args:
        uniform: f32[U,B,K,draws], the draws of this segment.
        time: i32, steps run before this segment since `start`.
        enough: i32, at least 0.

    Returns:
        The cache; the tokens i32[U,B,K], -1 where a cell did not decode or the step did not run;
        and, where the sampler weighs, their negative log-probabilities at temperature 1 with no
        token dropped, f32[U,B,K]. The last two are whole on every device.
    """
    b, k = cells.last.shape
    n, g, h = config.num_kv_heads, config.group_size, config.head_dim
    lengths = jnp.sum(prefix.valid, axis=1)
    from_end = lengths[:, None] - (jnp.cumsum(prefix.valid, axis=1) - 1)  # of each prompt token
    slots = cache.values[0].shape[2]

    def biases(slot: jax.Array, age: jax.Array, window: int) -> tuple[jax.Array, jax.Array]:
        """For prompt tokens [C,1,1,P] and slots [C,1,1,T]."""
        back = (slot - jnp.arange(slots)) % slots
        new = (back < age[..., None]) & in_window(back, window)
        old = jnp.broadcast_to(prefix.valid[:, None], (b, k, prefix.valid.shape[1]))
        if window:
            old = old & in_window(from_end[:, None] + age[..., None] - 1, window)
        flat = (seen.reshape(b * k, 1, 1, -1) for seen in (old, new))
        return tuple(jnp.where(seen, 0.0, _MASKED) for seen in flat)

    def step(carry):
        number, cache, (last, age, left), tokens, nats = carry
        slot = (time + number) % slots
        positions = lengths[:, None] + age - 1  # of the tokens that are fed now
        x = embed_tokens(weights, config, layout, last.reshape(-1), positions.reshape(-1))
        angles = rotations(config, positions, lengths)
        angles = {r: tuple(a.reshape(b * k, -1) for a in pair) for r, pair in angles.items()}
        seen = {w: biases(slot, age, w) for w in {0, *config.windows}}
        keys, values = [], []

        def attend(q, new_key, new_value):
            i = len(keys)
            at, dtype = (0, 0, 0, slot), cache.keys[i].dtype
            new_key, new_value = new_key.astype(dtype), new_value.astype(dtype)
            keys.append(jax.lax.dynamic_update_slice(cache.keys[i], new_key[..., None], at))
            at = (0, 0, slot, 0)
            values.append(
                jax.lax.dynamic_update_slice(cache.values[i], new_value[..., None, :], at)
            )
            old_bias, new_bias = seen[config.window(i)]
            q = q.reshape(b * k, n, g, h) * config.score_scale

            def wide(equation, a, c):
                c = c.astype(a.dtype)
                return jnp.einsum(equation, a, c, preferred_element_type=jnp.float32)

            def shared(a, c):
                """[C,N,G,I] x [B,N,I,J], one product for all cells of a row."""
                # Gathered by hand: XLA on CPU multiplies a tenth as fast from the einsum.
                rows = jnp.moveaxis(a.reshape(b, k, n, g, -1), 1, 2).reshape(b, n, k * g, -1)
                out = wide("bnmi,bnij->bnmj", rows, c).reshape(b, n, k, g, -1)
                # Pinned on both sides: the partitioner moves cells between devices otherwise.
                out = layout.constrain(out, "rows", "kv_heads", None, None, None)
                out = jnp.moveaxis(out, 2, 1)
                out = layout.constrain(out, "rows", None, "kv_heads", None, None)
                return out.reshape(b * k, n, g, -1)

            old = softcap(shared(q, prefix.keys[i]), config.attention_softcap)
            new = softcap(wide("cngh,cnht->cngt", q, keys[i]), config.attention_softcap)
            old, new = old + old_bias, new + new_bias
            peak = jnp.maximum(jnp.max(old, -1, keepdims=True), jnp.max(new, -1, keepdims=True))
            old, new = jnp.exp(old - peak), jnp.exp(new - peak)
            total = jnp.sum(old, -1, keepdims=True) + jnp.sum(new, -1, keepdims=True)
            out = shared(old.astype(x.dtype), prefix.values[i])
            out += wide("cngt,cnth->cngh", new.astype(x.dtype), values[i])
            return (out / total).astype(x.dtype).reshape(b * k, n * g, h)

        for i, layer in enumerate(weights.layers):
            rotated = angles.get(config.rope_of(i))
            x = layout.constrain(block(config, layer, x, rotated, attend), "rows", None)
        logits = vocabulary(weights, config, layout, x)
        token = choose(logits, uniform[number].reshape(b * k, -1), sampler, age.reshape(-1))
        nats = nats.at[number].set(_nats(logits, token, sampler).reshape(b, k))
        token = token.reshape(b, k)
        decoded = left > 0
        tokens = tokens.at[number].set(jnp.where(decoded, token, -1))
        ends = jnp.isin(token, jnp.asarray(end_tokens))
        one = decoded.astype(jnp.int32)
        cells = Cells(token, age + one, jnp.where(ends, 0, left - one))
        return number + 1, Cache(tuple(keys), tuple(values)), cells, tokens, nats

    def running(carry):
        number, _, (_, _, left), *_ = carry
        return (number < uniform.shape[0]) & (jnp.sum(left > 0) > enough)

    tokens = jnp.full(uniform.shape[:3], -1, jnp.int32)
    carry = (jnp.int32(0), cache, cells, tokens, jnp.zeros(tokens.shape, jnp.float32))
    _, cache, _, tokens, nats = jax.lax.while_loop(running, step, carry)
    return cache, *(layout.constrain(x, None, None, None) for x in (tokens, nats))
