"""GPT-2 and GPT-NeoX (Pythia, arXiv 2304.01373): layer norms, fused projections, no MLP gate."""

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families.family import ACTIVATIONS, Family, linear_entries, norm_entries
from pmc_jax.models.fields import Fields, attention_shape, rope_config
from pmc_jax.models.tensors import PART, Entry, single


def _gpt2(fields: Fields) -> DecoderConfig:
    fields.refuse("scale_attn_weights", True)
    fields.refuse("scale_attn_by_inverse_layer_idx", False)
    fields.refuse("add_cross_attention", False)
    hidden = fields.size("n_embd", 768)
    heads = fields.size("n_head", 12)
    if hidden % heads:
        raise fields.wrong(f"n_embd {hidden} is not a multiple of n_head {heads}")
    return DecoderConfig(
        vocab_size=fields.size("vocab_size", 50_257),
        hidden_size=hidden,
        intermediate_size=fields.size("n_inner", 4 * hidden),
        num_layers=fields.size("n_layer", 12),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        norm="layer",
        norm_eps=fields.positive("layer_norm_epsilon", 1e-5),
        rope=None,
        activation=fields.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        gated_mlp=False,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        learned_positions=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        max_positions=fields.size("n_positions", 1024),
    )


def _neox(fields: Fields) -> DecoderConfig:
    bias = fields.flag("attention_bias", True)
    # `rotary_pct` and `rotary_emb_base` are the names before transformers 5.
    older = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}
    renamed = {new: fields.hf[old] for old, new in older.items() if old in fields.hf}
    # This family ignores `num_key_value_heads`.
    fields = Fields({**fields.hf, "num_key_value_heads": None}, fields.where).with_defaults(renamed)
    shape = attention_shape(fields)
    return DecoderConfig(
        **shape,
        norm="layer",
        norm_eps=fields.positive("layer_norm_eps", 1e-5),
        parallel=fields.flag("use_parallel_residual", True),
        rope=rope_config(fields, shape["head_dim"], default_share=0.25),
        activation=fields.one_of("hidden_act", ACTIVATIONS, "gelu"),
        gated_mlp=False,
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings"),
        max_positions=fields.size("max_position_embeddings", 2048),
    )


def _fused(module: str, theirs: str, *, joined: bool) -> tuple[Entry, Entry]:
    """Returns the entries for a projection that computes queries, keys and values together.

    Args:
        module: name of the projection's module in the checkpoint.
        theirs: letters of the output axes in the checkpoint, see `Entry`.
        joined: whether the weights of queries, keys and values are concatenated; False = the
            three weights of each head follow those of the previous head.
    """
    weight = tuple((f"layers.{x}", "dnh") for x in "qkv")
    bias = tuple((f"layers.{x}_bias", "nh") for x in "qkv")
    if joined:  # All projections of GPT-2 are [in, out].
        groups, dimension = ("d", theirs), (1, 0)
    else:
        groups, dimension = (theirs, "d"), (None, None)
    return (
        Entry(f"{module}.weight", weight, groups, dimension[0]),
        Entry(f"{module}.bias", bias, (theirs,), dimension[1]),
    )


def _conv1d(module: str, parameter: str, into: str, out: str) -> tuple[Entry, Entry]:
    """Returns the entries for a projection whose weight in the checkpoint is [in, out].

    `into` and `out` are the letters of its input and output axes.
    """
    return (
        single(f"{module}.weight", parameter, into + out, into, out),
        single(f"{module}.bias", f"{parameter}_bias", out, out),
    )


_GPT2, _NEOX = "transformer.h.{i}.", "gpt_neox.layers.{i}."
FAMILIES = {
    "gpt2": Family(
        "GPT-2",
        "GPT2LMHeadModel",
        _gpt2,
        (
            single("transformer.wte.weight", "embed", "vd", "v", "d"),
            single("transformer.wpe.weight", "positions", "sd", "s", "d"),
            *norm_entries({"norm": "transformer.ln_f"}),
            single("lm_head.weight", "head", "vd", "v", "d"),
            *norm_entries(
                {"layers.attention_norm": f"{_GPT2}ln_1", "layers.mlp_norm": f"{_GPT2}ln_2"}
            ),
            *_fused(f"{_GPT2}attn.c_attn", "nh", joined=True),
            *_conv1d(f"{_GPT2}attn.c_proj", "layers.o", "nh", "d"),
            *_conv1d(f"{_GPT2}mlp.c_fc", "layers.up", "d", "f"),
            *_conv1d(f"{_GPT2}mlp.c_proj", "layers.down", "f", "d"),
        ),
        variants=({"transformer.": ""},),
        buffers=("*h.*.attn.bias", "*h.*.attn.masked_bias"),
    ),
    "gpt_neox": Family(
        "Pythia, GPT-NeoX",
        "GPTNeoXForCausalLM",
        _neox,
        (
            single("gpt_neox.embed_in.weight", "embed", "vd", "v", "d"),
            *norm_entries({"norm": "gpt_neox.final_layer_norm"}),
            single("embed_out.weight", "head", "vd", "v", "d"),
            *norm_entries(
                {
                    "layers.attention_norm": f"{_NEOX}input_layernorm",
                    "layers.mlp_norm": f"{_NEOX}post_attention_layernorm",
                }
            ),
            *_fused(f"{_NEOX}attention.query_key_value", f"n{PART}h", joined=False),
            *linear_entries(
                {
                    "layers.o": (f"{_NEOX}attention.dense", "nh", "d"),
                    "layers.up": (f"{_NEOX}mlp.dense_h_to_4h", "d", "f"),
                    "layers.down": (f"{_NEOX}mlp.dense_4h_to_h", "f", "d"),
                }
            ),
        ),
        buffers=("*.rotary_emb.inv_freq", "*.attention.bias", "*.attention.masked_bias"),
    ),
}
