"""OLMo 2 (arXiv 2501.00656): norms on the outputs of attention and MLP, not on their inputs."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import Family, llama_config, llama_names, qk_norm_entries
from pmc_jax.models.fields import Fields

_NORMS = {
    "attention_post_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}


def _read(fields: Fields) -> DecoderConfig:
    bias = fields.flag("attention_bias")
    return llama_config(
        fields,
        2048,
        norm_eps=1e-5,
        norms=tuple(_NORMS),
        qk_norm="projection",
        qkv_bias=bias,
        o_bias=bias,
    )


_NAMES = llama_names(_NORMS) + qk_norm_entries("nh")
FAMILIES = {"olmo2": Family("OLMo 2", "Olmo2ForCausalLM", _read, _NAMES)}
