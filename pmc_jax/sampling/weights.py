"""The snapshot that sampling reads: weights cast, fused and laid out, made once a round.

Training never waits on this layout and sampling never touches the training state. Layers are apart
instead of stacked: a decode step reads each matrix once, and a slice of a stacked array would be
copied first.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder


class FusedLayer(NamedTuple):
    """One layer; q, k and v in one product, gate and up in another. D, N, G, H, F as in the
    decoder.

    Attributes:
        attention_norm, mlp_norm: [D].
        qkv: [D,N,G+2,H]: for each key/value head its G query heads, the key, the value.
        o: [N,G,H,D].
        gate_up: [D,2,F].
        down: [F,D].
        biases: the same names, where the model has them.
    """

    attention_norm: jax.Array
    qkv_weight: jax.Array
    o: jax.Array
    mlp_norm: jax.Array
    gate_up_weight: jax.Array
    down: jax.Array
    biases: dict[str, jax.Array]

    def qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        y = jnp.einsum("...d,dnjh->...njh", x, self.qkv_weight)
        if "qkv" in self.biases:
            y = y + self.biases["qkv"]
        q = y[..., :-2, :]
        return q.reshape(*q.shape[:-3], -1, q.shape[-1]), y[..., -2, :], y[..., -1, :]

    def gate_up(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jnp.einsum("...d,djf->...jf", x, self.gate_up_weight)
        if "gate_up" in self.biases:
            y = y + self.biases["gate_up"]
        return y[..., 0, :], y[..., 1, :]

    def project(self, x: jax.Array, name: str) -> jax.Array:
        weight = getattr(self, name)
        if name == "o":
            x = x.reshape(*x.shape[:-2], -1)
            weight = weight.reshape(-1, weight.shape[-1])
        y = x @ weight
        return y + self.biases[name] if name in self.biases else y


class SamplingWeights(NamedTuple):
    """Everything that prefill and decode read.

    Attributes:
        embed, head: [V,D]; the same array where the model ties them.
        norm: [D].
        layers: one `FusedLayer` each.
    """

    embed: jax.Array
    head: jax.Array | None
    norm: jax.Array
    layers: tuple[FusedLayer, ...]

    @property
    def output_embedding(self) -> jax.Array:
        return self.embed if self.head is None else self.head


def snapshot(model: Decoder, config: DecoderConfig, layout: Layout, dtype) -> SamplingWeights:
    """Casts, fuses and reshards the training weights by two small jitted functions."""
    arrays = model.arrays()
    stacked = {k.removeprefix("layers."): v for k, v in arrays.items() if k.startswith("layers.")}
    rest = {k: v for k, v in arrays.items() if not k.startswith("layers.")}
    static = {"config": config, "layout": layout, "dtype": dtype}
    layers = tuple(
        _fuse(stacked, i, **static) for i in np.arange(config.num_layers, dtype=np.int32)
    )
    rest = _cast(rest, layout=layout, dtype=dtype)
    return SamplingWeights(rest["embed"], rest.get("head"), rest["norm"], layers)


@functools.partial(jax.jit, static_argnames=("layout", "dtype"))
def _cast(arrays: dict[str, jax.Array], *, layout: Layout, dtype) -> dict[str, jax.Array]:
    def place(x):
        axes = ("vocab", "embed") if x.ndim == 2 else (None,)
        return layout.constrain(x.astype(dtype), *axes)

    return jax.tree.map(place, arrays)


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype"))
def _fuse(
    stacked: dict[str, jax.Array], index: jax.Array, *, config: DecoderConfig, layout: Layout, dtype
) -> FusedLayer:
    """One layer, the index a traced number: it compiles once for all of them."""
    w = {name: x[index].astype(dtype) for name, x in stacked.items()}
    groups = (config.num_kv_heads, config.group_size)

    def grouped(q, k, v):
        q = q.reshape(*q.shape[:-2], *groups, q.shape[-1])
        return jnp.concatenate([q, k[..., None, :], v[..., None, :]], axis=-2)

    biases = {}
    if config.attention_bias:
        qkv_bias = grouped(w["q_bias"], w["k_bias"], w["v_bias"])
        biases["qkv"] = layout.constrain(qkv_bias, "kv_heads", None, None)
        biases["o"] = w["o_bias"]
    if config.mlp_bias:
        gate_up_bias = jnp.stack([w["gate_bias"], w["up_bias"]])
        biases["gate_up"] = layout.constrain(gate_up_bias, None, "mlp")
        biases["down"] = w["down_bias"]
    qkv = grouped(w["q"], w["k"], w["v"])
    o = w["o"].reshape(*groups, *w["o"].shape[1:])
    gate_up = jnp.stack([w["gate"], w["up"]], axis=1)
    return FusedLayer(
        attention_norm=layout.constrain(w["attention_norm"], None),
        qkv_weight=layout.constrain(qkv, "embed", "kv_heads", None, None),
        o=layout.constrain(o, "kv_heads", None, None, "embed"),
        mlp_norm=layout.constrain(w["mlp_norm"], None),
        gate_up_weight=layout.constrain(gate_up, "embed", None, "mlp"),
        down=layout.constrain(w["down"], "mlp", "embed"),
        biases=biases,
    )
