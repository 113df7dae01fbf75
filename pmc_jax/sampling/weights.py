"""The snapshot that sampling reads: weights cast, fused and laid out, made once a round.

Training never waits on this layout and sampling never touches the training state. Layers are apart
instead of stacked: a decode step reads each matrix once, and a slice of a stacked array would be
copied first.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

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


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype"))
def snapshot(model: Decoder, config: DecoderConfig, layout: Layout, dtype) -> SamplingWeights:
    """Casts, fuses and reshards the training weights in one jitted hand-over."""
    stacked = {k: v.astype(dtype) for k, v in model.arrays().items()}
    groups = (config.num_kv_heads, config.group_size)

    def grouped(q, k, v):
        q = q.reshape(*q.shape[:-2], *groups, q.shape[-1])
        return jnp.concatenate([q, k[..., None, :], v[..., None, :]], axis=-2)

    layers = []
    for i in range(config.num_layers):
        w = {k.removeprefix("layers."): v[i] for k, v in stacked.items() if k.startswith("layers.")}
        biases = {}
        if config.attention_bias:
            qkv_bias = grouped(w["q_bias"], w["k_bias"], w["v_bias"])
            biases["qkv"] = layout.constrain(qkv_bias, "kv_heads", None, None)
            biases["o"] = w["o_bias"]
        if config.mlp_bias:
            gate_up_bias = jnp.stack([w["gate_bias"], w["up_bias"]])
            biases["gate_up"] = layout.constrain(gate_up_bias, None, "mlp")
            biases["down"] = w["down_bias"]
        o = w["o"].reshape(*groups, *w["o"].shape[1:])
        qkv = grouped(w["q"], w["k"], w["v"])
        gate_up = jnp.stack([w["gate"], w["up"]], axis=1)
        layers.append(
            FusedLayer(
                attention_norm=layout.constrain(w["attention_norm"], None),
                qkv_weight=layout.constrain(qkv, "embed", "kv_heads", None, None),
                o=layout.constrain(o, "kv_heads", None, None, "embed"),
                mlp_norm=layout.constrain(w["mlp_norm"], None),
                gate_up_weight=layout.constrain(gate_up, "embed", None, "mlp"),
                down=layout.constrain(w["down"], "mlp", "embed"),
                biases=biases,
            )
        )
    head = stacked.get("head")
    return SamplingWeights(
        embed=layout.constrain(stacked["embed"], "vocab", "embed"),
        head=None if head is None else layout.constrain(head, "vocab", "embed"),
        norm=layout.constrain(stacked["norm"], None),
        layers=tuple(layers),
    )
