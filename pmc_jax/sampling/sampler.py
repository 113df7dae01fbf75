"""Sampling of the next token: temperature, top-k, top-p, then a draw from uniform numbers.

The sampler never sorts the vocabulary and draws no noise over it: a draw inverts the CDF in two
levels, top-p uses rejection, and a threshold, if one is needed, is found by bisection over float32
bit patterns, which is exact. Order and definitions are those of Hugging Face `generate`:
temperature, top-k, renormalise, top-p; a token is in the nucleus if the mass of all likelier
tokens is below `top_p`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.errors import UserError

# Tokens per block of the two-level CDF: the largest size for which each of eight vocabulary shards
# holds complete blocks.
_BLOCKS = (128, 64, 32, 16, 8)
# This many draws in a row all miss a nucleus of 0.95 with probability 6e-6.
_TRIES = 4


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Settings of the token choice; hashable, a static argument of jitted functions.

    Attributes:
        temperature: divides the logits; 0 = greedy, the first token with the largest logit.
        top_k: keep the k most likely tokens, and ties with the last of them; 0 = all.
        top_p: keep the smallest set of most likely tokens whose mass reaches `top_p`; 1 = all.
        temperature_decay_tokens: tokens of an answer over which the temperature falls linearly to
            `final_temperature`; 0 = constant temperature.
        final_temperature: temperature after these tokens.
        return_logprobs: whether decoding also returns the log-probability of its tokens.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    temperature_decay_tokens: int = 0
    final_temperature: float = 1.0
    return_logprobs: bool = False

    def __post_init__(self):
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"sampling needs temperature >= 0, top_k >= 0, 0 < top_p <= 1; got {self}"
            )
        decay, ends = self.temperature_decay_tokens, (self.temperature, self.final_temperature)
        if decay < 0 or (decay and min(ends) <= 0):
            raise UserError(
                "temperature decay needs temperature_decay_tokens >= 0 and temperatures above 0; "
                f"got {self}"
            )

    @property
    def draws(self) -> int:
        """Number of uniform numbers that one token needs."""
        return 1 if self.temperature == 0 or self.top_p == 1 else _TRIES + 1

    def temperature_after(self, age: jax.Array | None) -> float | jax.Array:
        """Temperature of the token that follows `age` i32[R] tokens: a number, or f32[R,1]."""
        if not self.temperature_decay_tokens or age is None:
            return self.temperature
        fraction = jnp.minimum(age / self.temperature_decay_tokens, 1)[:, None]
        return self.temperature + fraction * (self.final_temperature - self.temperature)


GREEDY = Sampler(temperature=0.0)


def sample_tokens(
    logits: jax.Array, uniform: jax.Array, sampler: Sampler, age: jax.Array | None = None
) -> jax.Array:
    """Draws one token per row.

    Top-p uses rejection: it draws from the full distribution until a token is in the nucleus, which
    gives the distribution of the nucleus. After `_TRIES` misses it computes the nucleus itself.

    Args:
        logits: f32[R,V].
        uniform: f32[R,sampler.draws] in [0, 1).
        sampler: settings, static.
        age: i32[R], tokens of the answer so far; None = 0.

    Returns:
        Token ids i32[R].
    """
    if sampler.temperature == 0:
        return _first(logits == jnp.max(logits, axis=-1, keepdims=True))
    mass = top_k_mass(logits, sampler, age)
    cdf = _cdf(mass)
    if sampler.top_p == 1:
        return _draw(cdf, uniform[:, 0])

    def attempt(carry):
        number, token, accepted = carry
        new = _draw(cdf, jax.lax.dynamic_index_in_dim(uniform, number, 1, keepdims=False))
        new = jnp.where(accepted, token, new)
        drawn = jnp.take_along_axis(mass, new[:, None], axis=1)
        heavier = jnp.sum(jnp.where(mass > drawn, mass, 0), axis=-1)
        return number + 1, new, heavier < sampler.top_p * cdf.total

    def missing(carry):
        number, _, accepted = carry
        return (number < _TRIES) & ~jnp.all(accepted)

    rows = logits.shape[0]
    begin = (jnp.int32(0), jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool))
    _, token, accepted = jax.lax.while_loop(missing, attempt, begin)

    def search():
        nucleus = _cdf(nucleus_mass(mass, cdf.total, sampler.top_p))
        return jnp.where(accepted, token, _draw(nucleus, uniform[:, _TRIES]))

    return jax.lax.cond(jnp.all(accepted), lambda: token, search)


def top_k_mass(logits: jax.Array, sampler: Sampler, age: jax.Array | None = None) -> jax.Array:
    """Unnormalised probabilities f32[R,V] after temperature and top-k; 0 for dropped tokens."""
    peak = jnp.max(logits, axis=-1, keepdims=True)
    mass = jnp.exp((logits - peak) / sampler.temperature_after(age))
    if not 0 < sampler.top_k < logits.shape[-1]:
        return mass
    holds = lambda part: jnp.sum(part > 0, axis=-1, dtype=jnp.int32) >= sampler.top_k  # noqa: E731
    return _above_threshold(mass, jnp.zeros(mass.shape[0]), holds)


def nucleus_mass(mass: jax.Array, total: jax.Array, top_p: float) -> jax.Array:
    """`mass` f32[R,V] inside the nucleus, 0 outside; `total` f32[R] is the sum of each row."""
    holds = lambda part: jnp.sum(part, axis=-1) >= top_p * total  # noqa: E731
    # All tokens below this floor hold less than 1 - top_p together; the threshold is not below it.
    return _above_threshold(mass, 0.5 * (1 - top_p) * total / mass.shape[-1], holds)


def _above_threshold(mass: jax.Array, floor: jax.Array, holds) -> jax.Array:
    """Keeps mass >= t in each row, for the largest t for which `holds(kept mass)` is true."""
    # Non-negative floats have the order of their bit patterns, so bisection over these is exact.
    low = jax.lax.bitcast_convert_type(floor.astype(jnp.float32), jnp.int32)
    high = jnp.full_like(low, jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32) + 1)

    def keep(bits):
        return jnp.where(mass >= jax.lax.bitcast_convert_type(bits, jnp.float32)[:, None], mass, 0)

    def halve(bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        good = holds(keep(middle))
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.while_loop(lambda b: jnp.any(b[1] - b[0] > 1), halve, (low, high))
    return keep(low)


class _Cdf(NamedTuple):
    """Mass [R,V] in blocks [R,N,V/N], sums of the blocks [R,N] and their cumulative sums [R,N]."""

    mass: jax.Array
    blocks: jax.Array
    cumulative: jax.Array

    @property
    def total(self) -> jax.Array:
        return self.cumulative[:, -1]


def _cdf(mass: jax.Array) -> _Cdf:
    size = mass.shape[1]
    block = next((n for n in _BLOCKS if size % (8 * n) == 0), _BLOCKS[0])
    mass = jnp.pad(mass, ((0, 0), (0, -size % block)))
    mass = mass.reshape(len(mass), -1, block)
    blocks = jnp.sum(mass, axis=-1)
    return _Cdf(mass, blocks, jnp.cumsum(blocks, axis=-1))


def _draw(cdf: _Cdf, uniform: jax.Array) -> jax.Array:
    """Inverts the CDF in two levels: first the block of tokens, then the token in the block."""
    target = uniform * cdf.total
    block = _first_above(cdf.blocks, cdf.cumulative, target)
    before = jnp.take_along_axis(cdf.cumulative, jnp.maximum(block - 1, 0)[:, None], 1)[:, 0]
    before = jnp.where(block > 0, before, 0)
    inside = jnp.take_along_axis(cdf.mass, block[:, None, None], axis=1)[:, 0]
    token = _first_above(inside, jnp.cumsum(inside, axis=-1), target - before)
    return block * cdf.mass.shape[-1] + token


def _first_above(mass: jax.Array, cumulative: jax.Array, target: jax.Array) -> jax.Array:
    """First index with mass whose cumulative mass exceeds the target, or the last index with mass
    if rounding leaves none.
    """
    above = (mass > 0) & (cumulative > target[:, None])
    index = jnp.arange(mass.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(mass > 0, index, 0), axis=-1)
    return jnp.minimum(_first(above), last)


def _first(mask: jax.Array) -> jax.Array:
    """Index of the first True in each row, by a minimum; argmax is not vectorised on CPU."""
    index = jnp.arange(mask.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(mask, index, mask.shape[-1] - 1), axis=-1)
