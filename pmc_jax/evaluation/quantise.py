"""Simulates quantisation: rounds weights to few levels and dequantises them.

Deployed models are often quantised, and rounding can undo small changes of the weights and recover
hidden answers (Zhang et al., "Catastrophic Failure of LLM Unlearning via Quantization", ICLR 2025,
arXiv 2410.16454). Like deployed quantisers, this module rounds only the projections of the layers;
embedding, head, norms and biases do not change.

A block holds the weights of one output for neighbouring inputs. The module divides each block by
its largest magnitude and rounds each weight to the nearest level in [-1, 1]:

    int8  The levels are k / 127. A block spans all inputs of an output (LLM.int8() without its
          separate treatment of outliers, Dettmers et al., arXiv 2208.07339).
    int4  The levels are k / 7. A block spans 64 inputs.
    nf4   The levels are the 16 levels of NormalFloat. A block spans 64 inputs (QLoRA without its
          second quantisation of the magnitudes, Dettmers et al., arXiv 2305.14314).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.config.train import PROJECTIONS
from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import merge
from pmc_jax.models.parameters import contracted_axes, parameters

BLOCK = 64
# QLoRA, appendix E: the levels are means of neighbouring normal quantiles, and 0 is exact.
NF4_LEVELS = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)


@functools.partial(jax.jit, static_argnames=("config", "layout", "kind"))
def quantised(model: Decoder, config: DecoderConfig, layout: Layout, kind: str) -> Decoder:
    """Returns a copy of a model with rounded projections and the same shapes and shardings.

    Args:
        model: model whose adapters are merged into the projections first, as for deployment.
        kind: int8 | int4 | nf4.
    """
    arrays, table = merge(model, config=config, layout=layout).arrays(), parameters(config)
    for projection in PROJECTIONS:
        if (name := f"layers.{projection}") in table:
            rounded = round_trip(arrays[name], contracted_axes(name), kind)
            arrays[name] = layout.constrain(rounded, *table[name].axes)
    return Decoder(arrays)


def round_trip(weight: jax.Array, contracted: int, kind: str) -> jax.Array:
    """Rounds each weight to the nearest level of its block and keeps shape and dtype.

    Args:
        weight: float [L, *inputs, *outputs], one projection in all L layers.
        contracted: number of input axes; blocks follow these axes in row-major order.
        kind: int8 | int4 | nf4.
    """
    inputs = math.prod(weight.shape[1 : 1 + contracted])
    layers, outputs = weight.shape[0], weight.shape[1 + contracted :]
    size = inputs if kind == "int8" else min(BLOCK, inputs)
    flat = weight.astype(jnp.float32).reshape(layers, inputs, *outputs)
    padding = [(0, 0)] * flat.ndim
    padding[1] = (0, -inputs % size)
    blocks = jnp.pad(flat, padding).reshape(layers, -1, size, *outputs)
    largest = jnp.max(jnp.abs(blocks), axis=2, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1)
    rounded = scale * _to_level(blocks / scale, kind)
    flat = rounded.reshape(layers, -1, *outputs)[:, :inputs]
    return flat.reshape(weight.shape).astype(weight.dtype)


def _to_level(x: jax.Array, kind: str) -> jax.Array:
    """Returns the nearest level to each value in [-1, 1]."""
    if kind == "nf4":
        levels = NF4_LEVELS
        index = jnp.searchsorted((levels[1:] + levels[:-1]) / 2, x, method="compare_all")
    else:
        most = {"int8": 127, "int4": 7}[kind]
        levels = (np.arange(-most, most + 1) / most).astype(np.float32)
        index = jnp.round(x * most).astype(jnp.int32) + most
    # A table lookup replaces the division by `most`, because XLA compiles the division to a product
    # that is not exactly 1 for the largest weight, which would then grow with each round trip.
    return jnp.asarray(levels)[index]
