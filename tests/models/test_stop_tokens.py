"""An exported model stops where the sampler stops."""

import json
from pathlib import Path

import pytest
import tiny_runs as tiny
from transformers import AddedToken, AutoTokenizer, GenerationConfig

import pmc_jax
from pmc_jax.config.run import ModelConfig
from pmc_jax.models.export import export_hf
from pmc_jax.sampling.generator import TextGenerator

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
EOS, IM_END = 2, 54


@pytest.fixture
def model(tmp_path) -> Path:
    """A base model whose end token is </s>, with a template whose turns end with <|im_end|>."""
    folder = tiny.write_model(tmp_path / "model")
    _set_template(folder, CHATML)
    return folder


def _set_template(folder: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    marks = ("<|im_start|>", "<|im_end|>")
    tokenizer.add_tokens([AddedToken(mark, special=True) for mark in marks])
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == IM_END
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def _exported(model: Path, **settings: str) -> dict:
    lm = pmc_jax.load(model)
    generator = TextGenerator.of(lm, ModelConfig(**settings))
    export_hf(generator.trained(lm.model), model / "out")
    again = TextGenerator.of(pmc_jax.load(model / "out"), ModelConfig(**settings))
    assert again.encoder.end_tokens == generator.encoder.end_tokens
    config = GenerationConfig.from_pretrained(model / "out")
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    assert set(generator.encoder.end_tokens) <= set(stops)
    return json.loads((model / "out" / "generation_config.json").read_text())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (EOS, [EOS, IM_END]),
        (IM_END, [IM_END, EOS]),
        ([5, EOS], [5, EOS, IM_END]),
        ([IM_END, EOS], [IM_END, EOS]),
        (None, [EOS, IM_END]),
    ],
)
def test_all_end_tokens_are_exported(before, after, model):
    path = model / "generation_config.json"
    config = json.loads(path.read_text()) | {"temperature": 0.6, "eos_token_id": before}
    path.write_text(json.dumps(config))
    assert _exported(model) == config | {"eos_token_id": after}


def test_a_model_without_a_generation_config_gets_one(model):
    (model / "generation_config.json").unlink()
    config = json.loads((model / "config.json").read_text())
    config |= {"bos_token_id": 1, "pad_token_id": None}
    (model / "config.json").write_text(json.dumps(config))
    assert _exported(model) == {"bos_token_id": 1, "eos_token_id": [EOS, IM_END]}


def test_tags_and_templates_without_an_end_add_nothing(model):
    before = json.loads((model / "generation_config.json").read_text())
    assert _exported(model, format="tags") == before
    _set_template(model, PLAIN)
    (model / "out").rename(model / "tags")
    assert _exported(model) == before


def test_trained_models_of_the_library_stop_too(model):
    pairs = [(row["question"], row["answer"]) for row in tiny.RETAIN[:2]]
    untrained = pmc_jax.FinetuneConfig(epochs=0)
    lm = pmc_jax.finetune(pmc_jax.load(model), pairs, config=untrained)
    assert lm.generation_config["eos_token_id"] == [EOS, IM_END]
