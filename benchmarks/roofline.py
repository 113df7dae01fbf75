"""Compares a decode step with the limits of the machine: python benchmarks/roofline.py [options]

The limit is the time of only the matrix products of the step, with the shapes of the step and
separate weights for every layer. The record also has the rate of a large matrix product and the
memory bandwidth. The last output line is JSON.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import cluster
import jax
import jax.numpy as jnp
from arguments import add_model
from decode_step import step_seconds
from record import print_record

import pmc_jax as pmc
from pmc_jax.config.run import ModelConfig
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.snapshot import SamplingWeights, product


def seconds(function: Callable, *arguments: object, repeats: int = 7) -> float:
    """Measures the median warm seconds of a function under `jax.jit`."""
    run = jax.jit(function)
    jax.block_until_ready(run(*arguments))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def memory_bandwidth() -> float:
    """Measures the bytes per second that an in-place update of a large array reads and writes."""
    add, large, times = jax.jit(lambda x: x + 1, donate_argnums=0), jnp.ones(2**27), []
    for _ in range(8):
        begin = time.perf_counter()
        large = jax.block_until_ready(add(large))
        times.append(time.perf_counter() - begin)
    return 2 * large.nbytes / statistics.median(times[1:])


def matrices(weights: SamplingWeights) -> list[tuple[jax.Array, int]]:
    """Returns the weight and the number of output axes of each matrix product in a decode step."""
    layers = (((x.qkv_weight, 3), (x.o, 1), (x.up_weight, 2), (x.down, 1)) for x in weights.layers)
    return [*itertools.chain.from_iterable(layers), (weights.output_embedding, 1)]


def products(weights: SamplingWeights, x: jax.Array) -> list[jax.Array]:
    """Computes only the matrix products of one decode step with `len(x)` slots."""
    return [
        product(jnp.broadcast_to(x + i, (len(x), weight[(0,) * outputs].size)), weight, outputs)
        for i, (weight, outputs) in enumerate(matrices(weights))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compares a decode step with the limits of the machine."
    )
    add_model(parser)
    parser.add_argument(
        "--slots", type=int, default=64, help="number of samples that are decoded together"
    )
    parser.add_argument(
        "--cache-size", type=int, default=64, help="number of new tokens in the cache"
    )
    options = cluster.parse(parser)

    lm = pmc.load(options.model, mesh=cluster.mesh(options))
    generator = TextGenerator.of(lm, ModelConfig(compute_dtype=options.dtype))
    weights = generator.snapshot(lm.model)
    dtype, slots = generator.dtype, options.slots
    square = jnp.ones((2048, 2048), dtype)
    gemm = 2 * 2048**3 / seconds(jnp.matmul, square, square)
    bandwidth = memory_bandwidth()

    floor = seconds(products, weights, jnp.ones((slots, 1), dtype))
    flops = 2 * slots * sum(weight.size for weight, _ in matrices(weights))

    batch_shape = max(1, slots // 8), 8
    step = min(step_seconds(generator, weights, batch_shape, options.cache_size))
    print_record(
        "roofline",
        options,
        gemm_gflops=gemm / 1e9,
        memory_gbytes_per_second=bandwidth / 1e9,
        decode_step={
            "seconds": step,
            "products_alone_seconds": floor,
            "products_alone_gflops": flops / floor / 1e9,
            "share_of_products_limit": floor / step,
            "share_of_gemm_rate": flops / step / gemm,
        },
        dtype=str(dtype),
    )


if __name__ == "__main__":
    main()
