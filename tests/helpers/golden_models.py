"""Tiny checkpoints in the repository, and functions that load and run them."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, Layout, layout, make_mesh
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, hidden_states, logits
from pmc_jax.models.families import decoder_config, naming
from pmc_jax.models.hf import load_params
from pmc_jax.models.load import model_json
from pmc_jax.models.safetensors_folder import SafetensorsFolder
from pmc_jax.sampling.engine import Engine
from pmc_jax.sampling.sampler import GREEDY
from pmc_jax.sampling.snapshot import snapshot

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("default", "llama3", "linear")
FAMILY_CASES = (
    "mistral",
    "qwen2",
    "qwen3",
    "phi",
    "phi3",
    "phi3_long",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "gpt_neox",
    "gpt2",
)


def one_device() -> Layout:
    return layout(make_mesh(devices=jax.devices()[:1]), TRAIN_RULES)


def golden_model(case: str, on: Layout | None = None):
    """Loads a golden checkpoint on a layout, which is one device if `on` is None.

    Returns:
        The weights, the configuration and the tensor names.
    """
    hf, source = model_json(GOLDEN / case / "config.json"), SafetensorsFolder(GOLDEN / case)
    config = decoder_config(hf, case)
    names = naming(hf, config, source.names())
    return load_params(source, names, config, on or one_device()), config, names


def tolerance(golden_logits: np.ndarray) -> float:
    """Returns the absolute difference that logits of two float32 implementations may have."""
    return max(1e-4, 3e-6 * np.abs(golden_logits).max())


def cached_greedy(model, config, on: Layout, prompts, count: int) -> np.ndarray:
    """Returns greedy tokens i32[n,count] from the sampling engine, without an end token."""
    on = layout(on.mesh, SAMPLE_RULES)
    engine = Engine(config, on, GREEDY, 1, count, (config.vocab_size,), (len(prompts), 1), 32)
    weights = snapshot(model, config, on, jnp.dtype("float32"))
    groups = engine.generate(weights, prompts, key=jax.random.key(0), ids=range(len(prompts)))
    (group,) = groups  # No sequence ends before the last token.
    return group.tokens[np.argsort(group.questions), 0]


def model_folder(folder: Path, case: str) -> Path:
    """Copies a golden checkpoint to `folder`, adds a tokenizer and returns the folder."""
    shutil.copytree(GOLDEN / case, folder, ignore=shutil.ignore_patterns("golden.npz"))
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(50))]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template="{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}",
    )
    tokenizer.save_pretrained(folder)
    return folder


def full_logits(
    model: Decoder,
    config: DecoderConfig,
    on: Layout,
    tokens: np.ndarray,
    lengths: np.ndarray,
    *,
    dtype: str = "float32",
) -> np.ndarray:
    """Computes logits f32[B,S,V] by one full forward pass.

    Rows are padded on the right, and row i has `lengths[i]` tokens.
    """
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    segments = (positions < np.asarray(lengths)[:, None]).astype(np.int32)

    @jax.jit
    def run(model, tokens, positions, segments):
        hidden = hidden_states(
            model, config, on, tokens, positions, segments, dtype=jnp.dtype(dtype)
        )
        return logits(model, config, hidden, on)

    arrays = (jnp.asarray(x, jnp.int32) for x in (tokens, positions, segments))
    return np.asarray(run(model, *arrays))


def greedy(
    model: Decoder, config: DecoderConfig, on: Layout, prompt: np.ndarray, count: int
) -> list[int]:
    """Returns `count` greedy tokens after a prompt, by a full forward pass for each token."""
    size = len(prompt) + count

    @jax.jit
    def step(model, tokens, length):
        positions = jnp.arange(size, dtype=jnp.int32)[None]
        segments = (positions < length).astype(jnp.int32)
        hidden = hidden_states(model, config, on, tokens, positions, segments)
        last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
        best = jnp.argmax(logits(model, config, last, on)[0, 0])
        return tokens.at[0, length].set(best.astype(jnp.int32))

    tokens = jnp.zeros((1, size), jnp.int32).at[0, : len(prompt)].set(jnp.asarray(prompt))
    for length in range(len(prompt), size):
        tokens = step(model, tokens, jnp.int32(length))
    return np.asarray(tokens)[0, len(prompt) :].tolist()
