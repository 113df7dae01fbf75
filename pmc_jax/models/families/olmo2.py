"""OLMo 2 (arXiv 2501.00656): norms of what a branch adds, not of what it reads."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import ACTIVATIONS, Family, llama_names, qk_norm_entries
from pmc_jax.models.fields import Fields, attention_shape, rope_config


def _read(fields: Fields) -> DecoderConfig:
    shape = attention_shape(fields)
    bias = fields.flag("attention_bias")
    return DecoderConfig(
        **shape,
        norm_eps=fields.positive("rms_norm_eps", 1e-5),
        norms=("attention_post_norm", "mlp_post_norm"),
        qk_norm="projection",
        rope=rope_config(fields, shape["head_dim"]),
        activation=fields.one_of("hidden_act", ACTIVATIONS, "silu"),
        qkv_bias=bias,
        o_bias=bias,
        tie_embeddings=fields.flag("tie_word_embeddings"),
        max_positions=fields.size("max_position_embeddings", 2048),
    )


FAMILIES = {
    "olmo2": Family(
        "OLMo 2",
        "Olmo2ForCausalLM",
        _read,
        llama_names(
            {
                "attention_post_norm": "post_attention_layernorm",
                "mlp_post_norm": "post_feedforward_layernorm",
            }
        )
        + qk_norm_entries("nh"),
    )
}
