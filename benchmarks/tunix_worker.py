"""Worker for `--against tunix`, which runs the tunix sampler on the tunix Llama model.

Each prompt is repeated once for each sample. `pairs.Worker` starts this script. The script needs
google-tunix, but not pmc_jax.
"""

import importlib.metadata
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import model, params
from worker_loop import serve


class TokenIds:
    """Tokenizer for prompts that are JSON lists of token ids."""

    def __init__(self, prompts: list[list[int]]):
        used = set(itertools.chain.from_iterable(prompts))
        self._unused = next(i for i in itertools.count() if i not in used)

    def encode(self, text: str) -> list[int]:
        return json.loads(text)

    def decode(self, ids: list[int]) -> str:
        return json.dumps(ids)

    def bos_id(self) -> None:
        return None

    def eos_id(self) -> int:
        return -1

    def pad_id(self) -> int:
        return self._unused


def sampling(arguments: dict) -> Callable[[], dict]:
    """Returns a function that measures new tokens per second. All sequences have full length."""
    shape = json.loads((Path(arguments["model"]) / "config.json").read_text())
    if shape["model_type"] != "llama":
        raise SystemExit(
            f"--against tunix: the model_type must be 'llama', but it is {shape['model_type']!r}. "
            "Pass a Llama model."
        )
    heads = shape["num_attention_heads"]
    config = model.ModelConfig(
        num_layers=shape["num_hidden_layers"],
        vocab_size=shape["vocab_size"],
        embed_dim=shape["hidden_size"],
        hidden_dim=shape["intermediate_size"],
        num_heads=heads,
        head_dim=shape.get("head_dim") or shape["hidden_size"] // heads,
        num_kv_heads=shape["num_key_value_heads"],
        rope_theta=shape["rope_theta"],
        norm_eps=shape["rms_norm_eps"],
        weight_tying=shape["tie_word_embeddings"],
    )
    axes, types = ("fsdp", "tp"), (AxisType.Auto,) * 2
    mesh = jax.make_mesh((1, 1), axes, axis_types=types, devices=jax.devices()[:1])
    dtype = jnp.dtype(arguments["dtype"])
    llama = params.create_model_from_safe_tensors(arguments["model"], config, mesh, dtype)
    prompts = arguments["prompts"]
    longest, new = max(map(len, prompts)), arguments["new_tokens"]
    room = 2 ** (longest - 1).bit_length() + new
    cache = CacheConfig(room, config.num_layers, config.num_kv_heads, config.head_dim)
    sampler = Sampler(llama, TokenIds(prompts), cache)
    repeated = [json.dumps(prompt) for prompt in prompts for _ in range(arguments["samples"])]
    seeds = itertools.count()

    def once() -> dict:
        begin = time.perf_counter()
        out = sampler(
            repeated,
            max_generation_steps=new,
            eos_tokens=[-1],
            temperature=arguments["temperature"],
            top_p=arguments["top_p"],
            top_k=arguments["top_k"] or None,
            seed=next(seeds),
        )
        seconds = time.perf_counter() - begin
        return {"tunix": sum(map(len, out.tokens)) / seconds}

    return once


if __name__ == "__main__":
    names = ("google-tunix", "jax", "transformers")
    serve(sampling, {name: importlib.metadata.version(name) for name in names})
