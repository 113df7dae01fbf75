"""Snapshot of the weights, which are cast, fused and resharded for sampling once per round.

Training does not depend on the layout of the snapshot, and sampling never changes the training
state. Each layer has its own arrays, because XLA would copy each slice of a stacked array before a
decode step reads it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout as MemoryLayout
from jax.experimental.layout import with_layout_constraint

from pmc_jax.distributed.mesh import TRAIN_RULES, Layout
from pmc_jax.distributed.mesh import layout as training_layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import merged_weight
from pmc_jax.models.parameters import A, B, parameters


class FusedLayer(NamedTuple):
    """Weights of one layer, fused so that q, k and v need one product, and gate and up another.

    The output axes of each weight come first, see `product`. `pmc_jax.models.decoder` defines the
    axis letters.

    Attributes:
        qkv_weight: [N,G+2,H,D], for each key/value head its G query heads, its key and its value.
        o: [D,N,G,H], weight of the output projection.
        up_weight: [2,F,D] for gate and up, or [1,F,D] for up alone.
        down: [D,F], weight of the down projection.
        biases: dict with the biases `qkv`, `o`, `up` and `down` that the model has.
        norms: dict from the decoder's name of a norm parameter to its array.
    """

    qkv_weight: jax.Array
    o: jax.Array
    up_weight: jax.Array
    down: jax.Array
    biases: dict[str, jax.Array]
    norms: dict[str, jax.Array]

    def get(self, name: str) -> jax.Array | None:
        return self.norms.get(name)

    def qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        y = product(x, self.qkv_weight, 3)
        if "qkv" in self.biases:
            y = y + self.biases["qkv"]
        q = y[..., :-2, :]
        return q.reshape(*q.shape[:-3], -1, q.shape[-1]), y[..., -2, :], y[..., -1, :]

    def gate_up(self, x: jax.Array) -> tuple[jax.Array | None, jax.Array]:
        y = product(x, self.up_weight, 2)
        if "up" in self.biases:
            y = y + self.biases["up"]
        return (y[..., 0, :] if y.shape[-2] == 2 else None), y[..., -1, :]

    def project(self, x: jax.Array, name: str) -> jax.Array:
        x = x.reshape(*x.shape[:-2], -1) if name == "o" else x
        y = product(x, getattr(self, name))
        return y + self.biases[name] if name in self.biases else y


# With more rows, the transposes cost XLA on CPU as much time as they save.
_FEW_ROWS = 256


def product(
    x: jax.Array, weight: jax.Array, outputs: int = 1, dtype: jnp.dtype | None = None
) -> jax.Array:
    """Multiplies `x` [..., I] by a weight whose output axes come first.

    The result has the shape [..., *output axes].

    Args:
        x: activations, whose last axis has all I inputs.
        weight: [*output axes, *input axes], with I inputs in total.
        outputs: number of output axes.
        dtype: dtype of the result; None = dtype of the operands.
    """

    # The output axes stay separate. XLA would gather a sharded axis to merge it into another axis.
    axes, size = "abc"[:outputs], x.shape[-1]

    def plain(x, weight):
        return jnp.einsum(f"ri,{axes}i->r{axes}", x, weight, preferred_element_type=dtype)

    def transposed(x, weight):
        # For few rows and a large matrix, XLA on CPU takes four fifths of the time if the product
        # is transposed. Without the barrier, XLA would fold the transpose into the product again.
        y = jnp.einsum(f"ri,{axes}i->{axes}r", x, weight, preferred_element_type=dtype)
        return jnp.moveaxis(jax.lax.optimization_barrier(y), -1, 0)

    pair = (x.reshape(-1, size), weight.reshape(*weight.shape[:outputs], size))
    few = len(pair[0]) <= _FEW_ROWS
    y = jax.lax.platform_dependent(*pair, cpu=transposed if few else plain, default=plain)
    return y.reshape(*x.shape[:-1], *weight.shape[:outputs])


class SamplingWeights(NamedTuple):
    """Weights for prefill and decoding.

    Attributes:
        rest: dict from the decoder's name of a parameter outside the layers to its array.
        layers: one `FusedLayer` per layer.
    """

    rest: dict[str, jax.Array]
    layers: tuple[FusedLayer, ...]

    def get(self, name: str) -> jax.Array | None:
        return self.rest.get(name)

    @property
    def output_embedding(self) -> jax.Array:
        """Output embedding [V,D]. It is the input embedding if the model ties the two."""
        return self.rest.get("head", self.rest["embed"])


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype", "source"))
def snapshot(
    model: Decoder, config: DecoderConfig, layout: Layout, dtype, source: Layout | None = None
) -> SamplingWeights:
    """Converts the training weights to the layout of sampling in one jitted call.

    The call casts, fuses and reshards the weights. Each device casts and fuses its own shards
    before it receives the missing shards, so every weight is sent once, in `dtype`.

    Args:
        model: weights in float32 or `dtype`, with or without adapters.
        layout: mesh and sharding rules of the result.
        dtype: dtype of the result.
        source: mesh and sharding rules of `model`; None = `TRAIN_RULES` on the same mesh.
    """
    source = training_layout(layout.mesh, TRAIN_RULES) if source is None else source

    def move(x: jax.Array, *axes: str | None) -> jax.Array:
        # Without this constraint, the partitioner would gather float32 weights and then cast them.
        x = layout.constrain(source.constrain(x, *axes), *axes)
        spec = layout.spec(axes, x.shape)
        return jax.shard_map(_in_order, mesh=layout.mesh, in_specs=spec, out_specs=spec)(x)

    table, arrays = parameters(config), model.arrays()
    stacked = {k.removeprefix("layers."): v for k, v in arrays.items() if k.startswith("layers.")}
    rest = {
        name: move(x.astype(dtype), *table[name].axes)
        for name, x in arrays.items()
        if not name.startswith("layers.")
    }
    layers: list[FusedLayer] = []
    for i in range(config.num_layers):
        own = {name: x[i] for name, x in stacked.items()}
        if i >= 2:
            # Two layers are sent at a time. All layers at once would be in memory twice.
            own, layers[i - 2] = jax.lax.optimization_barrier((own, layers[i - 2]))
        layers.append(_fuse(own, config, source, move, dtype))
    return SamplingWeights(rest, tuple(layers))


def _in_order(x: jax.Array) -> jax.Array:
    """Keeps an array in row-major memory, so that XLA does not copy all layers at the end."""
    return with_layout_constraint(x, MemoryLayout(tuple(range(x.ndim))))


def _fuse(
    w: dict[str, jax.Array], config: DecoderConfig, source: Layout, move: Callable, dtype
) -> FusedLayer:
    """Merges the adapters of one layer into its weights, then casts, fuses and reshards them.

    Args:
        w: dict from the name of a parameter, without the prefix "layers.", to its array.
        source: mesh and sharding rules of `w`.
        move: function of an array and its logical axes that reshards the array for sampling.
        dtype: dtype of the result.
    """
    for name in [name.removesuffix(A) for name in w if name.endswith(A)]:
        w[name] = merged_weight(w[name], w.pop(name + A), w.pop(name + B))
    axes = {name: parameters(config)[f"layers.{name}"].axes[1:] for name in w}
    w = {name: source.constrain(x.astype(dtype), *axes[name]) for name, x in w.items()}
    groups = (config.num_kv_heads, config.group_size)

    def grouped(q, k, v):
        q = q.reshape(*q.shape[:-2], *groups, q.shape[-1])
        return jnp.concatenate([q, k[..., None, :], v[..., None, :]], axis=-2)

    ups = ("gate", "up") if config.gated_mlp else ("up",)
    biases = {name: move(w[f"{name}_bias"], None) for name in ("o", "down") if f"{name}_bias" in w}
    if config.qkv_bias:
        qkv_bias = grouped(w["q_bias"], w["k_bias"], w["v_bias"])
        biases["qkv"] = move(qkv_bias, "kv_heads", None, None)
    if config.mlp_bias:
        biases["up"] = move(jnp.stack([w[f"{name}_bias"] for name in ups]), None, "mlp")
    qkv = jnp.moveaxis(grouped(w["q"], w["k"], w["v"]), 0, -1)
    o = jnp.moveaxis(w["o"].reshape(*groups, *w["o"].shape[1:]), -1, 0)
    return FusedLayer(
        qkv_weight=move(qkv, "kv_heads", None, None, "embed"),
        o=move(o, "embed", "kv_heads", None, None),
        up_weight=move(jnp.stack([w[name].T for name in ups]), None, "mlp", "embed"),
        down=move(w["down"].T, "embed", "mlp"),
        biases=biases,
        norms={name: move(x, *axes[name]) for name, x in w.items() if "norm" in name},
    )
