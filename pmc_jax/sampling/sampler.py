"""Sampling of the next token: temperature, top-k, top-p, then a draw from uniform numbers.

The order and the definitions are those of Hugging Face `generate`: temperature, top-k,
renormalisation, top-p. The nucleus is the set of tokens that top-p keeps. A token is in the nucleus
if the mass (probability) of all likelier tokens is below `top_p`.

The sampler neither sorts the vocabulary nor draws noise for every token. A draw inverts the CDF
(cumulative distribution function) in two levels, and top-p uses rejection. If a threshold is
needed, bisection over float32 bit patterns finds it exactly. Axis letters: R rows, V vocabulary.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.errors import UserError

# The two-level CDF uses the largest of these block sizes (in tokens) for which each of eight
# vocabulary shards holds complete blocks. If there is none, it pads the last block of 128.
_BLOCKS = (128, 64, 32, 16, 8)
# The probability that four draws in a row miss a nucleus of 0.95 is 6e-6.
_TRIES = 4


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Settings for the choice of a token, which jitted functions take as a static argument.

    Attributes:
        temperature: number by which the logits are divided. 0 selects the first token with the
            largest logit (greedy).
        top_k: number of most likely tokens to keep, plus ties with the last of them; 0 = all.
        top_p: probability mass of the smallest set of most likely tokens to keep; 1 = all.
        temperature_decay_tokens: number of answer tokens over which the temperature changes
            linearly to `final_temperature`; 0 = constant temperature.
        final_temperature: temperature after `temperature_decay_tokens` tokens.
        return_logprobs: whether decoding also returns the log-probabilities of the drawn tokens.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    temperature_decay_tokens: int = 0
    final_temperature: float = 1.0
    return_logprobs: bool = False

    def __post_init__(self):
        decays = self.temperature_decay_tokens != 0
        with_decay = "above 0 with a temperature decay"
        wrong = {
            ("temperature", "at least 0"): self.temperature < 0,
            ("top_k", "at least 0"): self.top_k < 0,
            ("top_p", "above 0 and at most 1"): not 0 < self.top_p <= 1,
            ("temperature_decay_tokens", "at least 0"): self.temperature_decay_tokens < 0,
            ("temperature", with_decay): decays and self.temperature <= 0,
            ("final_temperature", with_decay): decays and self.final_temperature <= 0,
        }
        for (name, range_), is_wrong in wrong.items():
            if is_wrong:
                raise UserError(
                    f"Sampler: {name} must be {range_}, but it is {getattr(self, name)!r}. "
                    f"Correct {name}."
                )

    @property
    def draws(self) -> int:
        """Number of uniform random numbers that the draw of one token needs."""
        return 1 if self.temperature == 0 or self.top_p == 1 else _TRIES + 1

    def temperature_after(self, age: jax.Array | None) -> float | jax.Array:
        """Returns the temperature for the next token of R answers that have `age` i32[R] tokens.

        The result is f32[R,1], or a number if the temperature is constant or `age` is None.
        """
        if not self.temperature_decay_tokens or age is None:
            return self.temperature
        fraction = jnp.minimum(age / self.temperature_decay_tokens, 1)[:, None]
        return self.temperature + fraction * (self.final_temperature - self.temperature)


GREEDY = Sampler(temperature=0.0)


def pmc_sampler(pmc: PMCConfig) -> Sampler:
    """Returns the sampler that the settings of PMC describe for `pmc.answer=own`."""
    return Sampler(
        pmc.sampling.temperature,
        pmc.sampling.top_k,
        pmc.sampling.top_p,
        pmc.sampling.temperature_decay_tokens if pmc.sampling.temperature else 0,
        pmc.sampling.final_temperature,
        return_logprobs=pmc.selection.max_perplexity is not None,
    )


def sample_tokens(
    logits: jax.Array, uniform: jax.Array, sampler: Sampler, age: jax.Array | None = None
) -> jax.Array:
    """Draws one token per row.

    Top-p uses rejection: it draws from the full distribution until a token is in the nucleus (the
    set of tokens that top-p keeps). The accepted tokens follow the distribution of the nucleus.
    After `_TRIES` misses, top-p computes the nucleus and draws from it.

    Args:
        logits: f32[R,V], logits over the vocabulary for each of R rows.
        uniform: f32[R,sampler.draws], random numbers in [0, 1).
        sampler: settings of the draw.
        age: i32[R], number of answer tokens so far; None = 0.

    Returns:
        The token ids i32[R].
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
    """Computes the unnormalised probabilities f32[R,V] after temperature and top-k.

    Tokens that top-k drops have probability 0. Arguments and axes are those of `sample_tokens`.
    """
    peak = jnp.max(logits, axis=-1, keepdims=True)
    mass = jnp.exp((logits - peak) / sampler.temperature_after(age))
    if not 0 < sampler.top_k < logits.shape[-1]:
        return mass
    holds = lambda part: jnp.sum(part > 0, axis=-1, dtype=jnp.int32) >= sampler.top_k  # noqa: E731
    return _above_threshold(mass, jnp.zeros(mass.shape[0]), holds)


def nucleus_mass(mass: jax.Array, total: jax.Array, top_p: float) -> jax.Array:
    """Returns unnormalised probabilities in which all tokens outside the nucleus have mass 0.

    Args:
        mass: f32[R,V], unnormalised probabilities of V tokens in each of R rows.
        total: f32[R], sum of each row.
        top_p: fraction of the sum that the nucleus must reach.
    """
    holds = lambda part: jnp.sum(part, axis=-1) >= top_p * total  # noqa: E731
    # All tokens below this floor have together less than (1 - top_p) * total, so it is low enough.
    return _above_threshold(mass, 0.5 * (1 - top_p) * total / mass.shape[-1], holds)


def _above_threshold(mass: jax.Array, floor: jax.Array, holds) -> jax.Array:
    """Sets the values below a threshold in each row of `mass` to 0.

    The threshold of a row is the largest number for which `holds(kept values)` is true.

    Args:
        mass: f32[R,V], numbers from 0 to 1.
        floor: f32[R], lower bound on the threshold of each row.
        holds: function from f32[R,V] to bool[R]. It is true for low thresholds.
    """
    # Non-negative floats have the order of their bit patterns, so bisection over them is exact.
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
    """Cumulative distribution of R rows, with the V tokens of a row in N blocks.

    Attributes:
        mass: [R,N,V/N], unnormalised probability of each token, padded with 0.
        blocks: [R,N], sum of each block.
        cumulative: [R,N], cumulative sums of the blocks.
    """

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
    """Draws one token per row, by inverting the CDF over the blocks and then within one block.

    `uniform` has one random number in [0, 1) for each row.
    """
    target = uniform * cdf.total
    block = _first_above(cdf.blocks, cdf.cumulative, target)
    before = jnp.take_along_axis(cdf.cumulative, jnp.maximum(block - 1, 0)[:, None], 1)[:, 0]
    before = jnp.where(block > 0, before, 0)
    inside = jnp.take_along_axis(cdf.mass, block[:, None, None], axis=1)[:, 0]
    token = _first_above(inside, jnp.cumsum(inside, axis=-1), target - before)
    return block * cdf.mass.shape[-1] + token


def _first_above(mass: jax.Array, cumulative: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the first index in each row at which the cumulative mass exceeds the target.

    Indices with mass 0 are skipped. If rounding leaves no such index, the result is the last index
    with mass above 0.
    """
    above = (mass > 0) & (cumulative > target[:, None])
    index = jnp.arange(mass.shape[-1], dtype=jnp.int32)
    last = jnp.max(jnp.where(mass > 0, index, 0), axis=-1)
    return jnp.minimum(_first(above), last)


def _first(mask: jax.Array) -> jax.Array:
    """Returns the index of the first True in each row, or the last index if a row has no True.

    The index is computed as a minimum, because XLA does not vectorise argmax on CPU.
    """
    index = jnp.arange(mask.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(mask, index, mask.shape[-1] - 1), axis=-1)
