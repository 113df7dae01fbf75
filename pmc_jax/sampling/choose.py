"""The choice of the next token: temperature, top-k, top-p, then a draw from one uniform a row.

The vocabulary is never sorted: top-k and top-p keep the tokens above a threshold, which a bisection
over float32 bit patterns finds exactly, and the draw inverts the CDF in two levels. Order and
definitions are those of Hugging Face `generate`: temperature, top-k, renormalise, top-p; a token
stays in the nucleus while the mass strictly above it is below `top_p`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pmc_jax.errors import UserError

_BLOCK = 128


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How the next token is drawn; hashable, a static argument of jitted functions.

    Attributes:
        temperature: divides the logits; 0 = greedy, the first of the largest logits.
        top_k: keep the k most likely tokens (and ties with the last of them); 0 = all.
        top_p: keep the smallest set of most likely tokens whose mass reaches `top_p`; 1 = all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"sampling needs temperature >= 0, top_k >= 0, 0 < top_p <= 1; got {self}"
            )


GREEDY = Sampler(temperature=0.0)


def choose(logits: jax.Array, uniform: jax.Array, sampler: Sampler) -> jax.Array:
    """Draws one token a row.

    Args:
        logits: f32[R,V].
        uniform: f32[R] in [0, 1).
        sampler: static.

    Returns:
        i32[R].
    """
    if sampler.temperature == 0:
        return _first(logits == jnp.max(logits, axis=-1, keepdims=True))
    mass = kept_mass(logits, sampler)
    return _draw(mass, uniform)


def kept_mass(logits: jax.Array, sampler: Sampler) -> jax.Array:
    """Unnormalised probabilities f32[R,V] after temperature, top-k and top-p; 0 for dropped
    tokens.
    """
    peak = jnp.max(logits, axis=-1, keepdims=True)
    mass = jnp.exp((logits - peak) / sampler.temperature)
    vocab = logits.shape[-1]
    if 0 < sampler.top_k < vocab:
        enough = lambda kept: jnp.sum(kept > 0, axis=-1, dtype=jnp.int32) >= sampler.top_k  # noqa: E731
        mass = _above_threshold(mass, jnp.zeros(mass.shape[0]), enough)
    if sampler.top_p < 1:
        total = jnp.sum(mass, axis=-1)
        enough = lambda kept: jnp.sum(kept, axis=-1) >= sampler.top_p * total  # noqa: E731
        # All tokens below this hold less than 1 - top_p together, so the threshold is not below it.
        floor = 0.5 * (1 - sampler.top_p) * total / vocab
        mass = _above_threshold(mass, floor, enough)
    return mass


def _above_threshold(mass: jax.Array, floor: jax.Array, enough) -> jax.Array:
    """Keeps mass >= t with the largest t for which `enough(kept)` still holds, per row."""
    # Non-negative floats order as their bit patterns do: bisect those, and the result is exact.
    low = jax.lax.bitcast_convert_type(floor.astype(jnp.float32), jnp.int32)
    high = jnp.full_like(low, jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32) + 1)

    def keep(bits):
        return jnp.where(mass >= jax.lax.bitcast_convert_type(bits, jnp.float32)[:, None], mass, 0)

    def halve(bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        good = enough(keep(middle))
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.while_loop(lambda b: jnp.any(b[1] - b[0] > 1), halve, (low, high))
    return keep(low)


def _draw(mass: jax.Array, uniform: jax.Array) -> jax.Array:
    """Inverse CDF in two levels: the block of tokens, then the token inside it."""
    rows, vocab = mass.shape
    mass = jnp.pad(mass, ((0, 0), (0, -vocab % _BLOCK))).reshape(rows, -1, _BLOCK)
    blocks = jnp.sum(mass, axis=-1)
    cumulative = jnp.cumsum(blocks, axis=-1)
    target = uniform * cumulative[:, -1]
    block = _first_above(blocks, cumulative, target)
    before = jnp.where(block > 0, jnp.take_along_axis(cumulative, block[:, None] - 1, 1)[:, 0], 0)
    inside = jnp.take_along_axis(mass, block[:, None, None], axis=1)[:, 0]
    token = _first_above(inside, jnp.cumsum(inside, axis=-1), target - before)
    return block * _BLOCK + token


def _first_above(mass: jax.Array, cumulative: jax.Array, target: jax.Array) -> jax.Array:
    """First index with mass whose cumulative mass exceeds the target; by rounding none: the last
    with mass.
    """
    hit = (mass > 0) & (cumulative > target[:, None])
    index = jnp.arange(mass.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(mass > 0, index, 0), axis=-1)
    return jnp.minimum(_first(hit), last)


def _first(hit: jax.Array) -> jax.Array:
    """Index of the first True in each row, by a vectorised minimum (argmax is not, on CPU)."""
    index = jnp.arange(hit.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(hit, index, hit.shape[-1] - 1), axis=-1)
