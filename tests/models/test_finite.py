"""A loaded model is finite, and has an embedding row for every token id that can occur."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from safetensors.numpy import load_file, save_file

from pmc_jax.config.run import ModelConfig
from pmc_jax.errors import UserError
from pmc_jax.models.load import load
from pmc_jax.sampling.generator import TextGenerator


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model")


def spoil(folder: Path, name: str, value: float, dtype=np.float32) -> None:
    tensors = {key: tensor.astype(dtype) for key, tensor in tiny.weights(folder).items()}
    tensors[name].flat[3] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.self_attn.v_proj.weight"]
)
def test_a_tensor_with_values_that_are_not_finite_is_named(folder, name, value):
    spoil(folder, name, value)
    with pytest.raises(UserError, match=rf"model.safetensors: the tensor {name} has val"):
        load(folder)


def test_values_too_large_for_the_dtype_are_named(folder):
    spoil(folder, "model.norm.weight", 3.4e38)
    with pytest.raises(UserError, match=r"the tensor model.norm.weight .* too large for the dtype"):
        load(folder, dtype="bfloat16")


def test_logits_that_are_not_finite(folder):
    spoil(folder, "model.norm.weight", 3.3e38)
    with pytest.raises(
        UserError, match=r"model: the weights of the model are finite, but its logits"
    ):
        load(folder)


def test_attention_scores_that_are_not_finite(folder):
    for name in ("q_proj", "k_proj"):
        spoil(folder, f"model.layers.1.self_attn.{name}.weight", 3e30)
    with pytest.raises(UserError, match=r"weights of the model are finite, but its logits"):
        load(folder)


def test_a_model_of_zeros(folder):
    path = folder / "model.safetensors"
    zeros = {name: np.zeros_like(array) for name, array in load_file(path).items()}
    save_file(zeros, path, metadata={"format": "pt"})
    message = tiny.fault(load, folder)
    assert "every token the same logit" in message and str(folder) in message


def with_id(folder: Path, number: int, *, added: str = "") -> None:
    """Gives the last token of the vocabulary, or an added token, another id.

    Args:
        added: "special", "ordinary", or "" for no added token.
    """
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    if added:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        tokenizer["added_tokens"] += [
            {"id": number, "content": "<image>", "special": added == "special", **flags}
        ]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["<image>" if added else list(vocabulary)[-1]] = number
    path.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("number", [128, 4000, 2**31, 2**32 - 1])
def test_a_token_id_beyond_the_embedding_is_refused_whatever_their_count(folder, number):
    with_id(folder, number)
    with pytest.raises(UserError, match=rf"model: .* token id {number}, .* only 128 rows"):
        load(folder)


def test_ids_within_the_embedding_may_have_gaps(folder):
    with_id(folder, 127)
    assert load(folder).config.vocab_size == 128


@pytest.mark.parametrize("added", ["special", "ordinary"])
def test_an_added_token_beyond_the_embedding_matters_only_in_prompts_and_answers(folder, added):
    with_id(folder, 128, added=added)
    lm = load(folder)
    encoder = TextGenerator.of(lm, ModelConfig()).encoder
    assert encoder.prompt("w1") and encoder.answer("w1")
    for encode in (encoder.prompt, encoder.answer, encoder.plain):
        # The vocabulary of words produces the special token from plain text too.
        with pytest.raises(UserError, match=r"token id 128, but .* 128 rows|a special token"):
            encode("w1 <image> w2")
    lm.tokenizer.chat_template = "<image>{{ messages[-1].content }}"
    with pytest.raises(UserError, match=r"the prompt .* token id 128, .* only 128 rows"):
        TextGenerator.of(dataclasses.replace(lm), ModelConfig())
