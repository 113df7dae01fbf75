"""Interface of a model family, and helpers that several families share."""

import dataclasses
from collections.abc import Callable, Mapping

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.fields import Fields, attention_shape, rope_config
from pmc_jax.models.tensors import Entry, single

# The keys are values of `hidden_act` in transformers, and the values are keys of
# `decoder.ACTIVATIONS`.
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """Family of models whose `config.json` has the same `model_type`.

    Attributes:
        title: names of the models, as listed in the README.
        architecture: name of the transformers class that loads an export.
        read: function from the fields of a `config.json` to the configuration of the decoder. It
            raises UserError for features that are not implemented.
        entries: entries of all tensors that a checkpoint of the family may hold, with the names of
            the modules in transformers.
        variants: dicts from a prefix of tensor names to its replacement in some checkpoints.
        carried: shell-style patterns for the names of tensors outside the decoder.
        buffers: shell-style patterns for the names of constants in some checkpoints, such as masks.
    """

    title: str
    architecture: str
    read: Callable[[Fields], DecoderConfig]
    entries: tuple[Entry, ...]
    variants: tuple[Mapping[str, str], ...] = ()
    carried: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ("*.rotary_emb.inv_freq",)


def norm_entries(names: Mapping[str, str]) -> tuple[Entry, ...]:
    """Returns the table entries for the weights and biases of norms over the hidden size.

    Args:
        names: dict from the name of a parameter to the name of its module in the checkpoint.
    """
    return tuple(
        entry
        for parameter, module in names.items()
        for entry in (
            single(f"{module}.weight", parameter, "d", "d"),
            single(f"{module}.bias", f"{parameter}_bias", "d", "d"),
        )
    )


def linear_entries(names: Mapping[str, tuple[str, str, str]]) -> tuple[Entry, ...]:
    """Returns the table entries for the weights and biases of projections.

    The weight of a projection is [out, in] in a checkpoint and [in, out] in the decoder.

    Args:
        names: dict from the name of a parameter to the name of its module in the checkpoint, the
            axis letters of its input and of its output, which `pmc_jax.models.decoder` defines.
    """
    return tuple(
        entry
        for parameter, (module, into, out) in names.items()
        for entry in (
            single(f"{module}.weight", parameter, into + out, out, into),
            single(f"{module}.bias", f"{parameter}_bias", out, out),
        )
    )


# The values are the module in Llama, the input letters and the output letters of a projection.
_PROJECTIONS = {
    "q": ("self_attn.q_proj", "d", "nh"),
    "k": ("self_attn.k_proj", "d", "nh"),
    "v": ("self_attn.v_proj", "d", "nh"),
    "o": ("self_attn.o_proj", "nh", "d"),
    "gate": ("mlp.gate_proj", "d", "f"),
    "up": ("mlp.up_proj", "d", "f"),
    "down": ("mlp.down_proj", "f", "d"),
}


def llama_names(
    layer_norms: Mapping[str, str], *, norm: str = "model.norm", **modules: str
) -> tuple[Entry, ...]:
    """Returns the table entries for Llama's tensor names, which most families use.

    Args:
        layer_norms: dict from the name of each norm of a layer to the name of its module.
        norm: name of the module of the last norm.
        modules: names of those modules that differ from Llama's, by the name of the projection.
    """
    layer = "model.layers.{i}."
    projections = {
        f"layers.{name}": (layer + modules.get(name, module), into, out)
        for name, (module, into, out) in _PROJECTIONS.items()
    }
    return (
        single("model.embed_tokens.weight", "embed", "vd", "v", "d"),
        *norm_entries({"norm": norm}),
        single("lm_head.weight", "head", "vd", "v", "d"),
        *norm_entries({f"layers.{name}": layer + module for name, module in layer_norms.items()}),
        *linear_entries(projections),
    )


PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def qk_norm_entries(letters: str) -> tuple[Entry, ...]:
    """Returns the table entries for the norms of queries and keys.

    `letters` are the letters that `pmc_jax.models.decoder` gives to the axes of the norm weights.
    """
    return tuple(
        single(
            f"model.layers.{{i}}.self_attn.{x}_norm.weight", f"layers.{x}_norm", letters, letters
        )
        for x in "qk"
    )


def llama_config(
    fields: Fields,
    max_positions: int,
    *,
    norm_eps: float = 1e-6,
    kv_default: int | None = None,
    **changes,
) -> DecoderConfig:
    """Reads the configuration of a decoder with Llama's architecture.

    Args:
        fields: fields of `config.json`.
        max_positions, norm_eps: defaults of `max_position_embeddings` and `rms_norm_eps`.
        kv_default: default of `num_key_value_heads`; None = the number of attention heads.
        changes: values for other attributes of `DecoderConfig`.
    """
    shape = attention_shape(fields, kv_default=kv_default)
    return DecoderConfig(
        **shape,
        norm_eps=fields.positive("rms_norm_eps", norm_eps),
        rope=rope_config(fields, shape["head_dim"]),
        activation=fields.one_of("hidden_act", ACTIVATIONS, "silu"),
        tie_embeddings=fields.flag("tie_word_embeddings"),
        max_positions=fields.size("max_position_embeddings", max_positions),
        **changes,
    )
