"""A decode segment at a shape that is asked for, nothing of it idle; with its warm times."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.sampling import decode
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.snapshot import SamplingWeights

SAMPLER = Sampler(1.25, 0, 0.95)
STEPS = 16
_PROMPT = 48


def decode_arguments(
    generator: TextGenerator, weights: SamplingWeights, grid: tuple[int, int], slots: int
) -> tuple[tuple, dict[str, Any]]:
    """Of `decode.decode`: a prefilled prompt of 48 tokens in each of `grid[0]` rows."""
    (b, k), layout, config = grid, generator.layout, generator.lm.config
    static = {"config": config, "layout": layout}
    tokens = np.ones((b, _PROMPT), np.int32)
    placed = (layout.put(x, "rows", None) for x in (tokens, tokens > 0))
    prefix, _ = prefill(weights, jnp.zeros(0, jnp.int32), *placed, **static)
    prefix, cache = decode.start(prefix, np.arange(b), cells=k, slots=slots, layout=layout)
    ones = np.ones((b, k), np.int32)
    cells = (layout.put(x, "rows", None) for x in (ones, ones, 2 * STEPS * ones))
    uniform = np.random.default_rng(0).random((STEPS, b, k, SAMPLER.draws), np.float32)
    uniform = layout.put(uniform, None, "rows", None, None)
    arguments = (weights, prefix, cache, decode.Cells(*cells), uniform, jnp.int32(0), jnp.int32(0))
    return arguments, {"sampler": SAMPLER, "end_tokens": (-1,), **static}


def step_seconds(
    generator: TextGenerator, weights: SamplingWeights, grid: tuple[int, int], slots: int
) -> list[float]:
    """Warm times of a decode step."""
    arguments, static = decode_arguments(generator, weights, grid, slots)
    weights, prefix, cache, *rest = arguments
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        cache, tokens, _ = decode.decode(weights, prefix, cache, *rest, **static)
        jax.block_until_ready(tokens)
        times.append((time.perf_counter() - begin) / STEPS)
    return times[1:]
