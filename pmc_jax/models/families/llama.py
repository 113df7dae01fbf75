"""Llama and similar families: Mistral (arXiv 2310.06825), Qwen2, Qwen3."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import (
    PRE_NORMS,
    Family,
    llama_config,
    llama_names,
    qk_norm_entries,
)
from pmc_jax.models.fields import Fields, layer_windows, sliding_windows


def _llama(fields: Fields) -> DecoderConfig:
    bias = fields.flag("attention_bias")
    return llama_config(fields, 2048, qkv_bias=bias, o_bias=bias, mlp_bias=fields.flag("mlp_bias"))


def _mistral(fields: Fields) -> DecoderConfig:
    fields = fields.with_defaults({"sliding_window": 4096})
    return llama_config(fields, 131_072, windows=sliding_windows(fields), kv_default=8)


def _qwen_windows(fields: Fields) -> tuple[int, ...]:
    layers = fields.size("num_hidden_layers")
    window = fields.size("sliding_window", 4096) if fields.flag("use_sliding_window") else None
    full = fields.get("max_window_layers", 28)
    if type(full) is not int:
        raise fields.wrong(f"max_window_layers must be an integer, but it is {full!r}")
    default = ["sliding_attention" if i >= full else "full_attention" for i in range(layers)]
    return layer_windows(fields, default, window)


def _qwen2(fields: Fields) -> DecoderConfig:
    windows = _qwen_windows(fields)
    return llama_config(fields, 32_768, qkv_bias=True, windows=windows, kv_default=32)


def _qwen3(fields: Fields) -> DecoderConfig:
    bias = fields.flag("attention_bias")
    fields = fields.with_defaults({"head_dim": 128})
    return llama_config(
        fields,
        32_768,
        qkv_bias=bias,
        o_bias=bias,
        qk_norm="head",
        windows=_qwen_windows(fields),
        kv_default=32,
    )


_NAMES = llama_names(PRE_NORMS)
FAMILIES = {
    "llama": Family("Llama 2, 3, 3.1, 3.2, SmolLM2, TinyLlama", "LlamaForCausalLM", _llama, _NAMES),
    "mistral": Family("Mistral", "MistralForCausalLM", _mistral, _NAMES),
    "qwen2": Family("Qwen2, Qwen2.5", "Qwen2ForCausalLM", _qwen2, _NAMES),
    "qwen3": Family("Qwen3 (dense)", "Qwen3ForCausalLM", _qwen3, _NAMES + qk_norm_entries("h")),
}
