"""The shape of a decoder, read from a Hugging Face `config.json`.

`DecoderConfig` holds every number that the mathematics of the model depends on, and nothing else.
It is frozen and hashable, so jitted functions take it as a static argument.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pmc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (arXiv 2104.09864) and its context-extension rule.

    Attributes:
        theta: base of the geometric series of wave lengths.
        kind: `default`, `linear` (positions divided by `factor`, arXiv 2306.15595) or `llama3`
            (long wave lengths divided by `factor`, short ones kept, a ramp between).
        factor, low_freq_factor, high_freq_factor, original_max_positions: parameters of `kind`;
            `original_max_positions` in tokens.
    """

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A pre-norm decoder with grouped-query attention, rotary positions and a gated MLP.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size, intermediate_size: widths of the residual stream and of the MLP.
        num_layers, num_heads, num_kv_heads, head_dim: depth and attention shape.
        norm_eps: added to the mean square in RMSNorm.
        rope: rotary embedding.
        tie_embeddings: the output projection is the embedding, transposed.
        attention_bias, mlp_bias: projections carry biases.
        max_positions: tokens in the longest sequence that the model was trained for.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float = 1e-6
    rope: RopeConfig = RopeConfig()
    tie_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    max_positions: int = 2048

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def num_parameters(self) -> int:
        """Learned numbers in all, a tied embedding counted once."""
        attention = self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        layer = self.hidden_size * (attention + 3 * self.intermediate_size + 2)
        if self.attention_bias:
            layer += self.head_dim * (self.num_heads + 2 * self.num_kv_heads) + self.hidden_size
        if self.mlp_bias:
            layer += 2 * self.intermediate_size + self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * layer + embeddings + self.hidden_size


def decoder_config(hf: Mapping[str, Any], where: str) -> DecoderConfig:
    """Reads a Hugging Face configuration.

    Args:
        hf: the content of `config.json`.
        where: its path, for messages.

    Raises:
        UserError: an architecture or a field that changes the mathematics and is not implemented, a
            missing field, or sizes that do not fit together.
    """
    if (model_type := hf.get("model_type")) != "llama":
        raise UserError(f"{where}: model_type {model_type!r} is not supported; supported: llama")
    if (act := hf.get("hidden_act", "silu")) != "silu":
        raise UserError(
            f"{where}: hidden_act {act!r} is not implemented for llama; expected 'silu'"
        )
    if hf.get("quantization_config"):
        raise UserError(
            f"{where}: quantised safetensors are not supported; export full weights first"
        )
    needed = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    sizes = {key: _size(hf, key, where) for key in needed}
    heads = sizes["num_attention_heads"]
    kv_heads = _size(hf, "num_key_value_heads", where, heads)
    head_dim = _size(hf, "head_dim", where, sizes["hidden_size"] // heads)
    if heads % kv_heads:
        raise UserError(
            f"{where}: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
        )
    if head_dim % 2:
        raise UserError(f"{where}: head_dim {head_dim} is odd; rotary positions need an even one")
    return DecoderConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_layers=sizes["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        norm_eps=_positive(hf, "rms_norm_eps", where, 1e-6),
        rope=_rope_config(hf, where),
        tie_embeddings=_flag(hf, "tie_word_embeddings", where),
        attention_bias=_flag(hf, "attention_bias", where),
        mlp_bias=_flag(hf, "mlp_bias", where),
        max_positions=_size(hf, "max_position_embeddings", where, 2048),
    )


def _size(hf: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = default if hf.get(key) is None else hf[key]
    if type(value) is not int or value < 1:
        raise UserError(f"{where}: {key} must be a positive integer, got {value!r}")
    return value


def _positive(hf: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = default if hf.get(key) is None else hf[key]
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise UserError(f"{where}: {key} must be a positive number, got {value!r}")
    return float(value)


def _flag(hf: Mapping[str, Any], key: str, where: str) -> bool:
    value = hf.get(key)
    if value is not None and type(value) is not bool:
        raise UserError(f"{where}: {key} must be true or false, got {value!r}")
    return bool(value)


def _rope_config(hf: Mapping[str, Any], where: str) -> RopeConfig:
    # transformers 5 writes `rope_parameters`; earlier ones `rope_theta` and `rope_scaling`.
    scaling = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise UserError(f"{where}: rope_parameters must be an object, got {scaling!r}")
    scaling = {"rope_theta": hf.get("rope_theta"), **scaling}
    theta = _positive(scaling, "rope_theta", where, 10_000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    for place in (hf, scaling):
        if place.get("partial_rotary_factor") not in (None, 1.0):
            raise UserError(f"{where}: partial_rotary_factor is not implemented for llama")
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, "linear", _positive(scaling, "factor", where))
    if kind == "llama3":
        low = _positive(scaling, "low_freq_factor", where)
        high = _positive(scaling, "high_freq_factor", where)
        if high <= low:
            raise UserError(f"{where}: high_freq_factor must be above low_freq_factor")
        factor = _positive(scaling, "factor", where)
        original = _size(scaling, "original_max_position_embeddings", where)
        return RopeConfig(theta, "llama3", factor, low, high, original)
    raise UserError(
        f"{where}: rope scaling {kind!r} is not implemented; known: default, linear, llama3"
    )
