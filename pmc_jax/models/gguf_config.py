"""Hugging Face configuration of a model, derived from the metadata of a GGUF file."""

from typing import Any

import numpy as np

from pmc_jax.errors import UserError
from pmc_jax.models.config import RopeConfig
from pmc_jax.models.gguf import ROPE_FACTORS, GGUFFile
from pmc_jax.models.rope import inverse_frequencies


def hf_config(file: GGUFFile) -> dict[str, Any]:
    """Derives the content of `config.json` from the metadata of a GGUF file.

    A field is absent if neither the metadata nor the model family determines its value.

    Raises:
        UserError: the architecture or a feature of the model is not supported.
    """
    if file.architecture not in _FAMILIES:
        raise UserError(
            f"{file.path}: the architecture is {file.architecture!r}, but from a GGUF file pmc "
            f"loads only {', '.join(_FAMILIES)}. Load the safetensors version of this model."
        )

    def get(key: str, kind: type, default: Any = None) -> Any:
        return file.get(f"{file.architecture}.{key}", kind, default)

    if count := get("expert_count", int):
        raise UserError(
            f"{file.path}: expert_count is {count}, but pmc supports only models without experts. "
            "Use a dense model."
        )
    heads, hidden = get("attention.head_count", int), get("embedding_length", int)
    head_dim = get("attention.key_length", int, hidden // heads if hidden and heads else None)
    if get("attention.value_length", int, head_dim) != head_dim:
        raise UserError(
            f"{file.path}: attention.key_length and attention.value_length must be equal, but "
            "they differ. Use another model."
        )
    num_tokens = len(file.get("tokenizer.ggml.tokens", list, ())) or None
    config = {
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id", int),
        "eos_token_id": file.get("tokenizer.ggml.eos_token_id", int),
        "head_dim": head_dim,
        "hidden_size": hidden,
        "intermediate_size": get("feed_forward_length", int),
        "max_position_embeddings": get("context_length", int),
        "model_type": file.architecture,
        "num_attention_heads": heads,
        "num_hidden_layers": get("block_count", int),
        "num_key_value_heads": get("attention.head_count_kv", int),
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id", int),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon", float),
        "rope_theta": get("rope.freq_base", float),
        "tie_word_embeddings": "output.weight" not in file.infos,
        "vocab_size": get("vocab_size", int, num_tokens),
    }
    if (rotated := get("rope.dimension_count", int, head_dim)) != head_dim:
        config["partial_rotary_factor"] = rotated / head_dim if head_dim else None
    config["rope_scaling"] = _rope_scaling(file, config["rope_theta"] or 10_000.0)
    config |= _FAMILIES[file.architecture](file, get, config)
    return {key: value for key, value in config.items() if value is not None}


def _llama(file: GGUFFile, get, config: dict[str, Any]) -> dict[str, Any]:
    if window := get("attention.sliding_window", int):
        raise UserError(
            f"{file.path}: the model uses sliding-window attention (window {window}), which pmc "
            "cannot load from a GGUF file. Load the safetensors version of this model."
        )
    return {
        "attention_bias": "blk.0.attn_q.bias" in file.infos,
        "hidden_act": "silu",
        "mlp_bias": "blk.0.ffn_gate.bias" in file.infos,
    }


def _qwen(file: GGUFFile, get, config: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": "silu", "use_sliding_window": False}


# The largest model of each family has this number of layers, and its query_pre_attn_scalar is
# hidden size / heads. The file lacks this scalar. llama.cpp also infers it from the layer count.
_LARGEST = {"gemma2": 46, "gemma3": 62}


def _gemma(file: GGUFFile, get, config: dict[str, Any]) -> dict[str, Any]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    largest = config["num_hidden_layers"] == _LARGEST[file.architecture]
    width = hidden // heads if largest and hidden and heads else None
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": width or config["head_dim"],
        "sliding_window": get("attention.sliding_window", int),
    }


def _gemma2(file: GGUFFile, get, config: dict[str, Any]) -> dict[str, Any]:
    return _gemma(file, get, config) | {
        "attn_logit_softcapping": get("attn_logit_softcapping", float),
        "final_logit_softcapping": get("final_logit_softcapping", float),
    }


def _gemma3(file: GGUFFile, get, config: dict[str, Any]) -> dict[str, Any]:
    return _gemma(file, get, config) | {
        "model_type": "gemma3_text",
        "rope_local_base_freq": get("rope.freq_base_swa", float, 10_000.0),
        "rope_theta": config["rope_theta"] or 1e6,
    }


# The keys are llama.cpp's names. Each function returns further fields for its family.
_FAMILIES = {"llama": _llama, "qwen2": _qwen, "qwen3": _qwen, "gemma2": _gemma2, "gemma3": _gemma3}


def _rope_scaling(file: GGUFFile, theta: float) -> dict[str, Any] | None:
    if ROPE_FACTORS in file.infos:
        return _llama3_scaling(file, theta)
    prefix = f"{file.architecture}.rope"
    kind = file.get(f"{prefix}.scaling.type", str, "none")
    factor = file.get(f"{prefix}.scaling.factor", float, file.get(f"{prefix}.scale_linear", float))
    if kind == "none" and factor in (None, 1.0):
        return None
    scaling = {"rope_type": "linear" if kind == "none" else kind, "factor": factor}
    return {key: value for key, value in scaling.items() if value is not None}


def _llama3_scaling(file: GGUFFile, theta: float) -> dict[str, Any] | None:
    """Infers the `rope_scaling` of a Llama 3 model. Returns None if all stored divisors are 1.

    A GGUF file stores the divisors of the rotary frequencies, not the parameters of the llama3
    rule. All released Llama 3 models have the same parameters except for `factor`, which is the
    largest divisor. `theta` is the base of the frequencies.

    Raises:
        UserError: these parameters do not reproduce all divisors.
    """
    divisors = file.rope_divisors()
    if np.all(divisors == 1):
        return None
    is_llama3 = theta > 0 and bool(np.all((divisors > 0) & (divisors < np.inf)))
    if is_llama3:
        rope = RopeConfig(theta, "llama3", float(divisors.max()), 1.0, 4.0, 8192)
        plain = inverse_frequencies(RopeConfig(theta), 2 * divisors.size)
        guess = inverse_frequencies(rope, 2 * divisors.size)
        is_llama3 = np.allclose(plain, guess * divisors, rtol=1e-4, atol=0)
    if not is_llama3:
        raise UserError(
            f"{file.path}: the values of tensor {ROPE_FACTORS!r} do not follow the llama3 rule. "
            "Load the safetensors version of this model."
        )
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_positions,
    }


def generation_config(file: GGUFFile) -> dict[str, Any]:
    """Returns the content of `generation_config.json`: the start, stop and padding token ids.

    The stop tokens include the end-of-turn token (`eot`) of chat models.
    """
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    stops = list(dict.fromkeys(i for key in keys if (i := file.get(key, int)) is not None))
    config = {
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id", int),
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id", int),
    }
    return {key: value for key, value in config.items() if value is not None}
