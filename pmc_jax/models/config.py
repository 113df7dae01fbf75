"""The shape of a decoder, read from a Hugging Face `config.json`.

`DecoderConfig` holds every number that the mathematics of the model depends on, and nothing else. It is
frozen and hashable, so jitted functions take it as a static argument.
"""

import dataclasses
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
        raise UserError(f"{where}: hidden_act {act!r} is not implemented for llama; expected 'silu'")
    if hf.get("quantization_config"):
        raise UserError(f"{where}: quantised safetensors are not supported; export full weights first")
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = {}
    for key in needed:
        value = hf.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"{where}: {key} must be a positive integer, got {value!r}")
        sizes[key] = value
    heads = sizes["num_attention_heads"]
    kv_heads = hf.get("num_key_value_heads") or heads
    head_dim = hf.get("head_dim") or sizes["hidden_size"] // heads
    if heads % kv_heads:
        raise UserError(f"{where}: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
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
        norm_eps=float(hf.get("rms_norm_eps", 1e-6)),
        rope=_rope_config(hf, where),
        tie_embeddings=bool(hf.get("tie_word_embeddings", False)),
        attention_bias=bool(hf.get("attention_bias", False)),
        mlp_bias=bool(hf.get("mlp_bias", False)),
        max_positions=int(hf.get("max_position_embeddings", 2048)),
    )


def _rope_config(hf: Mapping[str, Any], where: str) -> RopeConfig:
    # transformers 5 writes `rope_parameters`; earlier ones `rope_theta` and `rope_scaling`.
    scaling = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    theta = float(scaling.get("rope_theta", hf.get("rope_theta", 10_000.0)))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if float(scaling.get("partial_rotary_factor", hf.get("partial_rotary_factor", 1.0))) != 1.0:
        raise UserError(f"{where}: partial_rotary_factor is not implemented for llama")
    try:
        if kind == "default":
            return RopeConfig(theta)
        if kind == "linear":
            return RopeConfig(theta, "linear", float(scaling["factor"]))
        if kind == "llama3":
            return RopeConfig(
                theta,
                "llama3",
                float(scaling["factor"]),
                float(scaling["low_freq_factor"]),
                float(scaling["high_freq_factor"]),
                int(scaling["original_max_position_embeddings"]),
            )
    except KeyError as error:
        raise UserError(f"{where}: rope scaling {kind!r} lacks {error.args[0]!r}") from None
    raise UserError(f"{where}: rope scaling {kind!r} is not implemented; known: default, linear, llama3")
