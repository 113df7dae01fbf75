"""Names, shapes and logical axes of every parameter of a decoder.

Parameters with a dot in their name are stacked over layers.
"""

import dataclasses
import math
from collections.abc import Iterable

from pmc_jax.models.config import DecoderConfig

A, B = "_lora_a", "_lora_b"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """Shape of one parameter, and the logical axis of each dimension.

    A dimension without a logical axis (None) is never sharded.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]


def parameters(config: DecoderConfig) -> dict[str, Parameter]:
    """Returns a dict from name to shape and logical axes for all parameters of a model."""
    c = config
    table = {"embed": Parameter((c.vocab_size, c.hidden_size), ("vocab", "embed"))}
    if c.learned_positions:
        table["positions"] = Parameter((c.max_positions, c.hidden_size), (None, "embed"))
    table |= _norm(c, "norm")
    if not c.tie_embeddings:
        table["head"] = Parameter((c.vocab_size, c.hidden_size), ("vocab", "embed"))
    if c.head_bias:
        table["head_bias"] = Parameter((c.vocab_size,), ("vocab",))
    for name, p in _layer(c).items():
        table[f"layers.{name}"] = Parameter((c.num_layers, *p.shape), (None, *p.axes))
    return table


def adapter_pair(config: DecoderConfig, name: str, rank: int) -> dict[str, Parameter]:
    """Returns the shapes and axes of the adapter matrices A and B of a stacked projection.

    See `pmc_jax.models.lora`.
    """
    whole, split = parameters(config)[name], 1 + contracted_axes(name)
    shape, axes = whole.shape, whole.axes
    return {
        name + A: Parameter((*shape[:split], rank), (*axes[:split], None)),
        name + B: Parameter((shape[0], rank, *shape[split:]), (None, None, *axes[split:])),
    }


def stacked(config: DecoderConfig, names: Iterable[str]) -> dict[str, Parameter]:
    """Returns the shapes and axes of parameters and adapters that are stacked over layers.

    `names`, and the keys of the result, lack the prefix "layers.". The shapes of all adapters are
    those for rank 1, because the rank is never sharded.
    """
    table = parameters(config)
    for name in names:
        if name.endswith(A):
            table |= adapter_pair(config, f"layers.{name.removesuffix(A)}", rank=1)
    return {name: table[f"layers.{name}"] for name in names}


def contracted_axes(name: str) -> int:
    """Returns the number of input axes of a projection: heads and head_dim for `o`, else one."""
    return 2 if name.removeprefix("layers.") == "o" else 1


def num_parameters(config: DecoderConfig) -> int:
    """Counts the learned parameters of a model. A tied embedding counts once."""
    return sum(math.prod(p.shape) for p in parameters(config).values())


def _norm(c: DecoderConfig, name: str) -> dict[str, Parameter]:
    weight = Parameter((c.hidden_size,), (None,))
    return {name: weight, f"{name}_bias": weight} if c.norm == "layer" else {name: weight}


def _layer(c: DecoderConfig) -> dict[str, Parameter]:
    d, f, h = c.hidden_size, c.intermediate_size, c.head_dim
    q, kv = ((c.num_heads, h), ("heads", None)), ((c.num_kv_heads, h), ("kv_heads", None))
    table = {
        "q": Parameter((d, *q[0]), ("embed", *q[1])),
        "k": Parameter((d, *kv[0]), ("embed", *kv[1])),
        "v": Parameter((d, *kv[0]), ("embed", *kv[1])),
        "o": Parameter((*q[0], d), (*q[1], "embed")),
        "up": Parameter((d, f), ("embed", "mlp")),
        "down": Parameter((f, d), ("mlp", "embed")),
    }
    if c.gated_mlp:
        table["gate"] = Parameter((d, f), ("embed", "mlp"))
    for name in c.norms:
        table |= _norm(c, name)
    if c.qk_norm == "head":
        table["q_norm"] = table["k_norm"] = Parameter((h,), (None,))
    elif c.qk_norm == "projection":
        table["q_norm"], table["k_norm"] = Parameter(*q), Parameter(*kv)
    if c.qkv_bias:
        table["q_bias"], table["k_bias"], table["v_bias"] = (Parameter(*x) for x in (q, kv, kv))
    if c.o_bias:
        table["o_bias"] = Parameter((d,), (None,))
    if c.mlp_bias:
        table["up_bias"] = Parameter((f,), ("mlp",))
        table["down_bias"] = Parameter((d,), (None,))
        if c.gated_mlp:
            table["gate_bias"] = Parameter((f,), ("mlp",))
    return table
