"""Low-rank adapters (LoRA, arXiv 2106.09685), which replace W by W + alpha / rank * A B.

A model with adapters is a `Decoder` that holds `NAME_lora_a` and `NAME_lora_b` next to `NAME`. The
factor alpha / rank is in A. `Layers.project` and the sampling snapshot apply the adapters.
"""

import functools
import math

import jax
import jax.numpy as jnp

from pmc_jax.config.train import LoRAConfig
from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.parameters import A, B, Parameter, adapter_pair, parameters


def adapters(config: DecoderConfig, lora: LoRAConfig) -> dict[str, Parameter]:
    """Returns the shape and the logical axes of each adapter matrix, by name.

    Target projections that the model lacks are skipped.
    """
    names = (f"layers.{target}" for target in lora.targets)
    pairs = (adapter_pair(config, n, lora.rank) for n in names if n in parameters(config))
    return {name: p for pair in pairs for name, p in pair.items()}


def init_adapters(
    config: DecoderConfig, lora: LoRAConfig, key: jax.Array, layout: Layout
) -> Decoder:
    """Creates adapters that do not change the outputs of the model before training.

    As in PEFT, B is zero and A is uniform between -1 / sqrt(n) and 1 / sqrt(n), where n is the
    number of input channels.

    Returns:
        A decoder with only the adapters, in float32.
    """
    table = adapters(config, lora)

    def make(key: jax.Array) -> dict[str, jax.Array]:
        arrays = {}
        for i, (name, p) in enumerate(table.items()):
            if name.endswith(B):
                arrays[name] = jnp.zeros(p.shape, jnp.float32)
                continue
            bound = math.prod(p.shape[1:-1]) ** -0.5
            draw = jax.random.uniform(jax.random.fold_in(key, i), p.shape, minval=-1.0, maxval=1.0)
            arrays[name] = bound * draw
        return arrays

    shardings = {name: layout.sharding(p.axes, p.shape) for name, p in table.items()}
    return Decoder(jax.jit(make, out_shardings=shardings)(key))


def attach(base: Decoder, trained: Decoder, lora: LoRAConfig) -> Decoder:
    """Returns the model `base` with the adapters `trained`, scaled by alpha / rank.

    The function works inside and outside of jit.
    """
    scale = lora.alpha / lora.rank
    scaled = {n: scale * x if n.endswith(A) else x for n, x in trained.arrays().items()}
    return Decoder(base.arrays() | scaled)


def merged_weight(weight: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes W + A B for one layer in float32. The result has the dtype and the shape of W.

    Args:
        weight: W [*input axes, *output axes].
        a: A [*input axes, rank], scaled by alpha / rank.
        b: B [rank, *output axes].
    """
    low, out = (x.astype(jnp.float32) for x in (a, b))
    product = low.reshape(-1, low.shape[-1]) @ out.reshape(out.shape[0], -1)
    return (weight.astype(jnp.float32) + product.reshape(weight.shape)).astype(weight.dtype)


@functools.partial(jax.jit, static_argnames=("config", "layout"))
def merge(model: Decoder, *, config: DecoderConfig, layout: Layout) -> Decoder:
    """Returns a model in which the adapters are merged into the weights.

    The outputs of the model stay the same up to rounding.
    """
    arrays, table, out = model.arrays(), parameters(config), {}
    for name in table:
        whole = arrays[name]
        if name + A in arrays:
            whole = jax.vmap(merged_weight)(whole, arrays[name + A], arrays[name + B])
        out[name] = layout.constrain(whole, *table[name].axes)
    return Decoder(out)
