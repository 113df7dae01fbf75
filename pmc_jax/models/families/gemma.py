"""Gemma 2 (arXiv 2408.00118) and the language models of Gemma 3 (arXiv 2503.19786)."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import ACTIVATIONS, Family, llama_names, qk_norm_entries
from pmc_jax.models.fields import Fields, attention_shape, layer_windows, rope_config
from pmc_jax.models.tensors import renamed

_SHAPE = {"num_key_value_heads": 4, "head_dim": 256, "num_attention_heads": 8}


def _decoder(fields: Fields, **changes) -> DecoderConfig:
    fields.refuse("use_bidirectional_attention", False)
    shape = attention_shape(fields)
    bias = fields.flag("attention_bias")
    return DecoderConfig(
        **shape,
        norm="rms_plus_one",
        norm_eps=fields.positive("rms_norm_eps", 1e-6),
        norms=("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm"),
        attention_scale=fields.positive("query_pre_attn_scalar", 256) ** -0.5,
        activation=fields.one_of("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh"),
        qkv_bias=bias,
        o_bias=bias,
        embed_scale=shape["hidden_size"] ** 0.5,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        **changes,
    )


def _gemma2(fields: Fields) -> DecoderConfig:
    fields = fields.with_defaults(_SHAPE)
    layers = fields.size("num_hidden_layers")
    default = ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)]
    window = fields.size("sliding_window", 4096)
    return _decoder(
        fields,
        rope=rope_config(fields, fields.size("head_dim")),
        windows=layer_windows(fields, default, window),
        attention_softcap=fields.optional_positive("attn_logit_softcapping", 50.0),
        logit_softcap=fields.optional_positive("final_logit_softcapping", 30.0),
        max_positions=fields.size("max_position_embeddings", 8192),
    )


def _gemma3(fields: Fields) -> DecoderConfig:
    fields = fields.with_defaults(_SHAPE)
    layers, head_dim = fields.size("num_hidden_layers"), fields.size("head_dim")
    pattern = fields.size("sliding_window_pattern", fields.get("_sliding_window_pattern", 6))
    default = [
        "full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)
    ]
    ropes = fields.part("rope_parameters")
    if "sliding_attention" in ropes.hf or "full_attention" in ropes.hf:
        everywhere = rope_config(
            fields, head_dim, default_theta=1e6, scaling=ropes.part("full_attention")
        )
        local = rope_config(fields, head_dim, scaling=ropes.part("sliding_attention"))
    else:
        everywhere = rope_config(fields, head_dim, default_theta=1e6)
        plain = Fields({"rope_theta": fields.get("rope_local_base_freq")}, fields.where)
        local = rope_config(fields, head_dim, scaling=plain)
    return _decoder(
        fields,
        qk_norm="head",
        rope=everywhere,
        local_rope=local,
        windows=layer_windows(fields, default, fields.size("sliding_window", 4096)),
        attention_softcap=fields.optional_positive("attn_logit_softcapping"),
        logit_softcap=fields.optional_positive("final_logit_softcapping"),
        max_positions=fields.size("max_position_embeddings", 131_072),
    )


# transformers has these defaults for the text part of a multimodal configuration.
_TEXT = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
}


def _multimodal(fields: Fields) -> DecoderConfig:
    text = fields.part("text_config").hf
    tied = {"tie_word_embeddings": fields.flag("tie_word_embeddings", True)}
    return _gemma3(Fields({**_TEXT, **tied, **text}, f"{fields.where} (text_config)"))


_NAMES = llama_names(
    {
        "attention_norm": "input_layernorm",
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    }
)
_QK_NAMES = _NAMES + qk_norm_entries("h")
FAMILIES = {
    "gemma2": Family("Gemma 2", "Gemma2ForCausalLM", _gemma2, _NAMES),
    "gemma3_text": Family("Gemma 3 (text)", "Gemma3ForCausalLM", _gemma3, _QK_NAMES),
    "gemma3": Family(
        "Gemma 3 (language part of the multimodal models)",
        "Gemma3ForConditionalGeneration",
        _multimodal,
        renamed(_QK_NAMES, {"model.": "model.language_model."}),
        variants=(
            {
                "model.language_model.": "language_model.model.",
                "lm_head.": "language_model.lm_head.",
            },
            {"model.language_model.": "model."},
        ),
        carried=(
            "vision_tower.*",
            "multi_modal_projector.*",
            "model.vision_tower.*",
            "model.multi_modal_projector.*",
        ),
    ),
}
