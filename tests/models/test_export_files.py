"""An export has the side files of its source, and settings that transformers 4 reads too."""

import json
import logging

import pytest
from golden_models import model_folder

from pmc_jax.models.export import _older_rope, export_hf
from pmc_jax.models.load import load
from pmc_jax.models.peft import _base

SIDE = {
    "preprocessor_config.json": "{}",
    "processor_config.json": "{}",
    "tokenizer.model": "pieces",
    "special_tokens_map.json": "{}",
    "LICENSE": "Terms of use",
    "README.md": "A model",
}
LEFT_OUT = (
    *("pytorch_model.bin", "modeling_own.py", "adapter_config.json", "target.json", ".hidden"),
    *("pytorch_model.bin.index.json", "model.gguf"),
)


def test_side_files_are_copied_and_weights_and_code_are_not(tmp_path):
    folder = model_folder(tmp_path / "model", "default")
    for name, text in SIDE.items():
        (folder / name).write_text(text)
    for name in LEFT_OUT:
        (folder / name).write_text("{}")
    (folder / "folder").mkdir()
    export_hf(load(folder), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= SIDE.keys() and not names & {*LEFT_OUT, "folder"}
    for name, text in SIDE.items():
        assert (tmp_path / "out" / name).read_text() == text
    # The export of an export keeps them too.
    export_hf(load(tmp_path / "out"), tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == names


def test_special_tokens_have_the_name_that_transformers_4_reads(tmp_path):
    lm = load(model_folder(tmp_path / "model", "default"))
    lm.tokenizer.add_special_tokens({"extra_special_tokens": ["w1", "w2"]})
    export_hf(lm, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["additional_special_tokens"] == ["w1", "w2"]
    assert "extra_special_tokens" not in settings
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    again = load(tmp_path / "out").tokenizer
    assert set(again.all_special_tokens) == set(lm.tokenizer.all_special_tokens)


def test_named_special_tokens_have_the_name_that_transformers_4_reads(tmp_path):
    """The processor of Gemma 3 asks the tokenizer for its image token by name."""
    folder = model_folder(tmp_path / "model", "default")
    path = folder / "tokenizer_config.json"
    named = {"image_token": "w1", "boi_token": "w2"}
    listed = {"additional_special_tokens": ["w3"]}
    settings = json.loads(path.read_text()) | {"extra_special_tokens": named} | listed
    path.write_text(json.dumps(settings))
    lm = load(folder)
    assert lm.tokenizer.image_token == "w1"
    export_hf(lm, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["extra_special_tokens"] == named
    assert settings["additional_special_tokens"] == ["w3"]
    again = load(tmp_path / "out").tokenizer
    assert again.image_token == "w1" and again.boi_token == "w2"
    assert set(again.all_special_tokens) == set(lm.tokenizer.all_special_tokens) >= {"w3"}


def test_frequencies_have_the_names_that_transformers_4_reads(tmp_path):
    folder = model_folder(tmp_path / "model", "default")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("rope_theta", None)
    scaling = {"rope_type": "linear", "factor": 2.0}
    rope = {"rope_theta": 500000.0, **scaling}
    path.write_text(json.dumps(config | {"rope_parameters": rope}))
    lm = load(folder)
    export_hf(lm, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["rope_parameters"] == rope and written["rope_theta"] == 500000.0
    assert written["rope_scaling"] == scaling
    assert load(tmp_path / "out").config == lm.config


def test_longrope_has_the_three_fields_that_transformers_4_accepts(tmp_path):
    folder = model_folder(tmp_path / "model", "phi3")
    config = json.loads((folder / "config.json").read_text())
    original = config.pop("original_max_position_embeddings")
    config["rope_parameters"]["original_max_position_embeddings"] = original
    (folder / "config.json").write_text(json.dumps(config))
    lm = load(folder)
    export_hf(lm, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    rope = written["rope_parameters"]
    factors = {name: rope[name] for name in ("short_factor", "long_factor")}
    assert written["rope_scaling"] == {"type": "longrope", **factors}
    assert written["original_max_position_embeddings"] == original
    assert written["partial_rotary_factor"] == rope["partial_rotary_factor"]
    assert load(tmp_path / "out").config == lm.config


def test_two_kinds_of_layers_have_two_frequencies():
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert _older_rope({"rope_parameters": rope}) == {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    }
    assert _older_rope({"rope_theta": 1e4}) == _older_rope({"rope_parameters": None}) == {}


@pytest.mark.parametrize(
    ("source", "base", "revision"),
    [
        ("model", "{cwd}/model", None),
        ("{cwd}/model", "{cwd}/model", None),
        ("{cwd}/hub/models--org--some--name/snapshots/0123", "org/some--name", "0123"),
    ],
)
def test_the_base_of_adapters_is_found_from_any_folder(
    source, base, revision, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cwd = tmp_path.resolve()
    assert _base(source.format(cwd=cwd)) == {
        "base_model_name_or_path": base.format(cwd=cwd),
        "revision": revision,
    }


@pytest.mark.parametrize(
    ("source", "why"), [("gs://bucket/model", "address"), ("model.gguf", "GGUF file")]
)
def test_a_base_that_peft_cannot_load_is_named(source, why, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").touch()
    with caplog.at_level(logging.WARNING):
        assert _base(source)["base_model_name_or_path"].endswith(source)
    assert why in caplog.text and "base_model_name_or_path" in caplog.text
