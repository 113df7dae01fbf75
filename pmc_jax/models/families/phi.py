"""Phi-1.5 and Phi-2 (arXiv 2309.05463): a shared norm for attention and MLP, and biases."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import ACTIVATIONS, Family, llama_names
from pmc_jax.models.fields import Fields, attention_shape, rope_config
from pmc_jax.models.tensors import single


def _read(fields: Fields) -> DecoderConfig:
    fields.refuse("qk_layernorm", False)
    shape = attention_shape(fields)
    return DecoderConfig(
        **shape,
        norm="layer",
        norm_eps=fields.positive("layer_norm_eps", 1e-5),
        norms=("attention_norm",),
        parallel=True,
        rope=rope_config(fields, shape["head_dim"], default_share=0.5),
        activation=fields.one_of("hidden_act", ACTIVATIONS, "gelu_new"),
        gated_mlp=False,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        head_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings"),
        max_positions=fields.size("max_position_embeddings", 2048),
    )


_NAMES = llama_names(
    {"attention_norm": "input_layernorm"},
    norm="model.final_layernorm",
    o="self_attn.dense",
    up="mlp.fc1",
    down="mlp.fc2",
)
FAMILIES = {
    "phi": Family(
        "Phi-1.5, Phi-2",
        "PhiForCausalLM",
        _read,
        (*_NAMES, single("lm_head.bias", "head_bias", "v", "v")),
    )
}
