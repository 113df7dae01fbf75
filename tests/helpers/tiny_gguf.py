"""Conversion of golden checkpoints to GGUF files with a small tokenizer."""

import json

import gguf
import numpy as np
from golden_models import GOLDEN
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pmc_jax.models.families import decoder_config
from pmc_jax.models.load import model_json

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")},
    **{f"self_attn.{x}_norm": f"attn_{x}_norm" for x in "qk"},
}
GEMMA_NAMES = NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
ARCHITECTURES = {"gemma3_text": "gemma3"}  # llama.cpp has other names for these model types.


def gguf_name(name: str, table: dict[str, str] = NAMES) -> str:
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{table[stem]}.{kind}"
    _, _, layer, module = stem.split(".", 3)
    return f"blk.{layer}.{table[module]}.{kind}"


def permuted(x: np.ndarray, heads: int) -> np.ndarray:
    """Permutes the rows of a q or k projection as the converter of llama.cpp does."""
    shape = (heads, 2, x.shape[0] // heads // 2, *x.shape[1:])
    return np.ascontiguousarray(x.reshape(shape).swapaxes(1, 2).reshape(x.shape))


def byte_level_vocabulary() -> tuple[list[str], list[str]]:
    """Returns the tokens and merges of a small byte-level BPE, with three control tokens first."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the year 1987 and the number 12345, the café"] * 3, trainer)
    vocabulary = backend.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    merges = json.loads(backend.to_str())["model"]["merges"]
    return tokens, [" ".join(merge) for merge in merges]


def add_byte_level_tokenizer(writer: gguf.GGUFWriter, pre: str = "smollm") -> None:
    tokens, merges = byte_level_vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}{% endfor %}")


def write_gguf(
    path, case="default", quantised=None, theta=None, tokenizer=add_byte_level_tokenizer
):
    """Writes a golden checkpoint as llama.cpp's converter does, with a vocabulary of 320 tokens."""
    hf = model_json(GOLDEN / case / "config.json")
    config = decoder_config(hf, case)
    architecture = ARCHITECTURES.get(hf["model_type"], hf["model_type"])
    is_gemma = architecture.startswith("gemma")
    table = GEMMA_NAMES if is_gemma else NAMES
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(theta or config.rope.theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(320)
    if config.rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
    if is_gemma:
        writer.add_sliding_window(hf["sliding_window"])
    if config.attention_softcap:
        writer.add_attn_logit_softcapping(config.attention_softcap)
        writer.add_final_logit_softcapping(config.logit_softcap)
    tokenizer(writer)
    for file in sorted((GOLDEN / case).glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            x = tensor.astype(np.float32)
            if x.shape[0] == config.vocab_size:
                x = np.pad(x, ((0, 320 - config.vocab_size), (0, 0)))
            if is_gemma and name.endswith("norm.weight"):
                x = x + 1
            if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
                heads = config.num_heads if ".q_proj." in name else config.num_kv_heads
                x = permuted(x, heads)
            kind = quantised if x.ndim == 2 and x.shape[1] % 32 == 0 else None
            if kind is None:
                writer.add_tensor(gguf_name(name, table), x)
            else:
                quantised_x = gguf.quants.quantize(x, kind)
                writer.add_tensor(gguf_name(name, table), quantised_x, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
