"""Makes the golden files of the families with PyTorch; run by hand, not by the tests.

    pip install torch transformers
    python tests/golden/families.py [FAMILY ...]
    python tests/golden/families.py --gguf FILE      # gemma3_270m.npz, from the whole Gemma 3 file

Made with torch 2.13, transformers 5.24. Every folder is a random checkpoint with every quirk of its
family switched on, as transformers saves it, and `golden.npz`, all in float32:

    tokens i32[2,S], lengths i32[2]     rows padded right
    logits f32[2,S,V]                   undefined at padding
    left f32[S,V]                       of row 1 padded left
    continuation i32[32]                greedy, row 0, each step a full forward pass
    bfloat16_rms f32                    root mean square of bfloat16 logits minus these ones
    loss f32, gradients f32[n]          mean next-token cross-entropy of both rows, and the norm of
                                        its gradient to each tensor, in the order of `names`
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from make import HERE, MIN_MARGIN, continuation

SIZE = 24
SHARED = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 1000.0}
PHI3 = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
        "long_factor": [1.0, 2.0, 3.0, 5.0, 8.0, 13.0],
    },
}
CASES = {
    "mistral": {"head_dim": 16, "sliding_window": 7, "rope_parameters": PLAIN_ROPE},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 1,
        "rope_parameters": PLAIN_ROPE,
        "tie_word_embeddings": True,
    },
    "qwen3": {"head_dim": 16, "rope_parameters": PLAIN_ROPE},
    "phi": {"rope_parameters": {**PLAIN_ROPE, "partial_rotary_factor": 0.5}},
    "phi3": {**PHI3, "sliding_window": 9, "original_max_position_embeddings": 64},
    # Every sequence is longer than the original length.
    "phi3_long": {**PHI3, "model_type": "phi3", "original_max_position_embeddings": 16},
    "gemma2": {
        "head_dim": 16,
        "sliding_window": 6,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0,
        "rope_parameters": PLAIN_ROPE,
        "tie_word_embeddings": True,
    },
    "gemma3_text": {
        "head_dim": 16,
        "sliding_window": 6,
        "query_pre_attn_scalar": 24,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 8.0},
        },
        "tie_word_embeddings": True,
    },
    "olmo2": {"rope_parameters": PLAIN_ROPE},
    "gpt_neox": {"rope_parameters": {**PLAIN_ROPE, "partial_rotary_factor": 0.25}},
    "gpt2": {"n_inner": 40, "tie_word_embeddings": True},
}


def build(name: str) -> torch.nn.Module:
    settings = {"model_type": name, **SHARED, **CASES[name]}
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    for dropout in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        if hasattr(config, dropout):
            setattr(config, dropout, 0.0)
    # The eager attention is the one that caps scores.
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = "norm" in name or ".ln_" in name
        middle = float(is_norm and name.endswith("weight") and "Gemma" not in type(model).__name__)
        parameter.data = middle + (0.2 if is_norm or parameter.ndim == 1 else 0.3) * noise


def make(name: str) -> None:
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        model = build(name)
        randomise(model, generator)
        tokens = torch.randint(3, SHARED["vocab_size"], (2, SIZE), generator=generator)
        with torch.no_grad():
            greedy, margin = continuation(model, tokens[0])
        if margin > MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{name}: every seed has a near tie")
    lengths = torch.tensor([SIZE, SIZE - 7])
    right = torch.arange(SIZE)[None] < lengths[:, None]
    left = right.flip(1)
    tokens = torch.where(right, tokens, 0)
    moved = torch.zeros_like(tokens)
    moved[left] = tokens[right]
    positions = (left.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        moved = model(moved, attention_mask=left.long(), position_ids=positions).logits
        half = copy.deepcopy(model).bfloat16()(tokens, attention_mask=right.long()).logits
    logits = model(tokens, attention_mask=right.long()).logits
    off = (half.float() - logits.detach())[right]
    labels = torch.where(right, tokens, -100)[:, 1:]
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
    loss.backward()
    gradients = {n: p.grad.norm().item() for n, p in model.named_parameters()}
    if name == "gpt_neox":  # the one family whose files name a tensor otherwise
        gradients["embed_out.weight"] = gradients.pop("lm_head.weight")
    folder = HERE / name
    model.save_pretrained(folder)
    np.savez_compressed(
        folder / "golden.npz",
        tokens=tokens.numpy().astype(np.int32),
        lengths=lengths.numpy().astype(np.int32),
        logits=logits.detach().numpy(),
        left=moved[1].numpy(),
        continuation=greedy,
        bfloat16_rms=np.float32(off.square().mean().sqrt().item()),
        loss=np.float32(loss.item()),
        names=np.array(list(gradients)),
        gradients=np.array(list(gradients.values()), np.float32),
    )
    print(name, "seed", seed, "margin", margin, "largest", float(logits.abs().max()))


# "The capital of France is" of Gemma 3, the beginning of text included.
GEMMA_PROMPT = (2, 818, 5279, 529, 7001, 563)


def make_gemma(path: Path) -> None:
    """128 columns of the logits at every position, and a greedy continuation."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = torch.tensor(GEMMA_PROMPT)
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
        greedy, margin = continuation(model, tokens)
    columns = np.arange(7, logits.shape[-1], 2048)
    np.savez_compressed(
        HERE / "gemma3_270m.npz",
        tokens=tokens.numpy().astype(np.int32),
        columns=columns.astype(np.int32),
        logits=logits[:, columns].numpy(),
        largest=np.float32(logits.abs().max()),
        continuation=greedy[:16],
    )
    print("gemma3_270m", "margin", margin)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--gguf"]:
        make_gemma(Path(sys.argv[2]))
    else:
        for case in sys.argv[1:] or CASES:
            make(case)
