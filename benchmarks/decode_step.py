"""Measures warm times of `decode` in a call in which all slots are active."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.sampling.decode import Slots, decode, start_batch
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import SamplingWeights

SAMPLER = Sampler(1.25, 0, 0.95)
STEPS = 16
_PROMPT = 48


def decode_arguments(
    generator: TextGenerator,
    weights: SamplingWeights,
    batch_shape: tuple[int, int],
    cache_size: int,
) -> tuple[tuple, dict[str, Any]]:
    """Makes the arguments of `decode` for prompts of 48 tokens.

    Args:
        batch_shape: number of prompts, and number of slots per prompt.
        cache_size: number of new tokens that the cache can hold.
    """
    (b, k), layout, config = batch_shape, generator.layout, generator.lm.config
    static = {"config": config, "layout": layout}
    tokens = np.ones((b, _PROMPT), np.int32)
    prompts = (layout.put(x, "rows", None) for x in (tokens, tokens > 0))
    prompts, _ = prefill(weights, jnp.zeros(0, jnp.int32), *prompts, **static)
    rows = np.arange(b)
    prompts, cache = start_batch(prompts, rows, slots=k, cache_size=cache_size, layout=layout)
    ones = np.ones((b, k), np.int32)
    slots = Slots(*(layout.put(x, "rows", None) for x in (ones, ones, 2 * STEPS * ones)))
    uniform = np.random.default_rng(0).random((STEPS, b, k, SAMPLER.draws), np.float32)
    uniform = layout.put(uniform, None, "rows", None, None)
    arguments = (weights, prompts, cache, slots, uniform, jnp.int32(0), jnp.int32(0))
    return arguments, {"sampler": SAMPLER, "end_tokens": (-1,), **static}


def step_seconds(
    generator: TextGenerator,
    weights: SamplingWeights,
    batch_shape: tuple[int, int],
    cache_size: int,
) -> list[float]:
    """Measures the seconds per decode step in five warm calls.

    The arguments are those of `decode_arguments`.
    """
    arguments, static = decode_arguments(generator, weights, batch_shape, cache_size)
    weights, prompts, cache, *rest = arguments
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        cache, tokens, _ = decode(weights, prompts, cache, *rest, **static)
        jax.block_until_ready(tokens)
        times.append((time.perf_counter() - begin) / STEPS)
    return times[1:]
