"""Every family against PyTorch: logits, cached decoding, gradients, files both ways."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import (
    FAMILY_CASES,
    GOLDEN,
    cached_greedy,
    full_logits,
    golden_model,
    model_folder,
    one_device,
    tolerance,
)
from safetensors.numpy import load_file, save_file

from pmc_jax.config.train import LoRAConfig
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import hidden_states
from pmc_jax.models.export import export_hf
from pmc_jax.models.families import FAMILIES, decoder_config
from pmc_jax.models.hf import to_hf
from pmc_jax.models.load import load, model_json
from pmc_jax.models.lora import init_adapters
from pmc_jax.models.peft import export_adapter
from pmc_jax.training.cross_entropy import cross_entropy

LORA = LoRAConfig(rank=2)


@pytest.fixture(scope="module", params=FAMILY_CASES)
def case(request):
    name = request.param
    return name, np.load(GOLDEN / name / "golden.npz"), *golden_model(name)


def test_logits(case):
    """Padded right, and padded left as PyTorch saw it: padding changes no real position."""
    _, golden, model, config, _ = case
    tokens, lengths = golden["tokens"], golden["lengths"]
    ours = full_logits(model, config, one_device(), tokens, lengths)
    for row, length in enumerate(lengths):
        expected = golden["logits"][row, :length]
        np.testing.assert_allclose(ours[row, :length], expected, rtol=0, atol=tolerance(expected))
    left = golden["left"][-lengths[1] :]
    np.testing.assert_allclose(ours[1, : lengths[1]], left, rtol=0, atol=tolerance(left))


def test_bfloat16_is_as_near_as_pytorch(case):
    """Rounding to 8 bits is chaotic: half as much again as PyTorch's own distance is allowed."""
    _, golden, model, config, _ = case
    tokens, lengths = golden["tokens"], golden["lengths"]
    ours = full_logits(model, config, one_device(), tokens, lengths, dtype="bfloat16")
    real = np.arange(tokens.shape[1]) < lengths[:, None]
    off = np.sqrt(np.mean((ours - golden["logits"])[real] ** 2))
    assert 0 < off < 1.5 * golden["bfloat16_rms"]


def test_greedy_tokens_with_a_cache(case):
    """Two prompts of different lengths, padded left, in one batch."""
    _, golden, model, config, _ = case
    rows = zip(golden["tokens"], golden["lengths"], strict=True)
    prompts = [row[:length].tolist() for row, length in rows]
    tokens = cached_greedy(model, config, one_device(), prompts, 32)
    np.testing.assert_array_equal(tokens[0], golden["continuation"])
    whole = np.concatenate([prompts[1], tokens[1]])[None]
    again = full_logits(model, config, one_device(), whole, [whole.size])[0].argmax(-1)
    np.testing.assert_array_equal(again[len(prompts[1]) - 1 : -1], tokens[1])


def test_gradients(case):
    """Norm of the gradient to every tensor. 1e-3: a norm of sums over 40 positions in float32."""
    _, golden, model, config, names = case
    on = one_device()
    tokens, lengths = jnp.asarray(golden["tokens"]), golden["lengths"]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    real = np.asarray(positions) < lengths[:, None]
    targets = jnp.roll(tokens, -1, axis=1)
    weights = jnp.asarray(real[:, 1:] / real[:, 1:].sum(), jnp.float32)

    def loss(model):
        hidden = hidden_states(model, config, on, tokens, positions, jnp.asarray(real, jnp.int32))
        return cross_entropy(
            hidden[:, :-1],
            model.output_embedding,
            model.get("head_bias"),
            targets[:, :-1],
            weights,
            on,
            config.logit_softcap,
        )[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(model)
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-5)
    ours = {t.name: np.linalg.norm(array) for t, array in to_hf(gradient, names, config)}
    expected = dict(zip(golden["names"].tolist(), golden["gradients"].tolist(), strict=True))
    assert ours.keys() == expected.keys()
    for name, norm in expected.items():
        np.testing.assert_allclose(ours[name], norm, rtol=1e-3, atol=1e-6, err_msg=name)


def test_export_is_the_source_bit_for_bit(case, tmp_path):
    name = case[0]
    lm = load(model_folder(tmp_path / "model", name), mesh=one_device().mesh)
    export_hf(lm, tmp_path / "out")
    before, after = (load_file(tmp_path / x / "model.safetensors") for x in ("model", "out"))
    assert before.keys() == after.keys()
    for tensor, array in before.items():
        assert array.dtype == after[tensor].dtype and array.tobytes() == after[tensor].tobytes()
    configs = [model_json(tmp_path / x / "config.json") for x in ("model", "out")]
    assert configs[0]["architectures"] == configs[1]["architectures"]
    assert decoder_config(configs[1], "out") == lm.config


def test_export_in_several_files(case, tmp_path):
    """Tensors in other files than before; the content of each stays what it was."""
    lm = load(model_folder(tmp_path / "model", case[0]), mesh=one_device().mesh)
    export_hf(lm, tmp_path / "out", shard_bytes=20_000)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 1 and not (tmp_path / "out" / "model.safetensors").exists()
    after = {name: array for path in files for name, array in load_file(path).items()}
    before = load_file(tmp_path / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(array.tobytes() == after[name].tobytes() for name, array in before.items())
    again = load(tmp_path / "out", mesh=one_device().mesh).model.arrays()
    for name, array in lm.model.arrays().items():
        np.testing.assert_array_equal(array, again[name])


TENSOR_FAULTS = {
    "missing": (lambda name, x: {}, "{name} of shape {shape} is missing"),
    "renamed": (lambda name, x: {f"{name}s": x}, "{name} of shape {shape} is missing"),
    "integers": (lambda name, x: {name: x.astype(np.int8)}, "{name} has dtype I8"),
    "doubles": (lambda name, x: {name: x.astype(np.float64)}, "{name} has dtype F64"),
    "longer": (lambda name, x: {name: np.concatenate([x, x[:1]])}, "{name} has shape"),
    "one more": (lambda name, x: {name: x, f"{name}.scale": x}, "{name}.scale"),
}


@pytest.mark.parametrize("fault", TENSOR_FAULTS)
def test_a_tensor_that_does_not_fit(case, fault, tmp_path):
    """Every kind of tensor of every family: one clear error, whichever of them is spoilt."""
    change, expected = TENSOR_FAULTS[fault]
    folder = model_folder(tmp_path / "model", case[0])
    tensors = load_file(folder / "model.safetensors")
    for entry in case[-1].entries:
        name = entry.pattern.format(i=1)
        array = tensors[name]
        others = {other: x for other, x in tensors.items() if other != name}
        save_file(others | change(name, array), folder / "model.safetensors")
        with pytest.raises(UserError) as error:
            load(folder, mesh=one_device().mesh)
        message, part = str(error.value), expected.format(name=name, shape=list(array.shape))
        assert "\n" not in message and str(folder) in message and part in message, message


@pytest.mark.slow
def test_eight_devices(on_eight_devices):
    """fsdp 2 x tensor 4, which divides neither every head count nor every width."""
    found = on_eight_devices("families")
    assert found["devices"] == 8 and found["families"].keys() == set(FAMILY_CASES)
    for name, differences in found["families"].items():
        golden = np.load(GOLDEN / name / "golden.npz")
        assert differences["logits"] <= tolerance(golden["logits"][0]), name
        assert differences["greedy"] == golden["continuation"].tolist(), name


def renamed(folder, change, **config):
    """A checkpoint with other tensor names."""
    tensors = load_file(folder / "model.safetensors")
    tensors = {change(name): array for name, array in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    whole = model_json(folder / "config.json") | config
    (folder / "config.json").write_text(json.dumps(whole))
    return tensors


PREFIXES = (("language_model.model.", ""), ("model.language_model.", "model."))


@pytest.mark.parametrize(("language", "vision"), PREFIXES)
def test_language_part_of_a_multimodal_model(tmp_path, language, vision):
    folder = model_folder(tmp_path / "model", "gemma3_text")
    text = model_json(folder / "config.json")
    plain = load(folder, mesh=one_device().mesh)
    tensors = renamed(folder, lambda name: language + name.removeprefix("model."))
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    eye = {f"{vision}vision_tower.x.weight": np.arange(6, dtype=np.float16).reshape(2, 3)}
    eye |= {f"{vision}multi_modal_projector.mm": np.ones(2, np.float32)}
    save_file(tensors | eye, folder / "model.safetensors")
    lm = load(folder, mesh=one_device().mesh)
    assert lm.config == plain.config
    for name, array in plain.model.arrays().items():
        np.testing.assert_array_equal(array, lm.model.arrays()[name])
    export_hf(lm, tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert after.keys() == (tensors | eye).keys()
    for name, array in (tensors | eye).items():
        assert array.dtype == after[name].dtype and array.tobytes() == after[name].tobytes()
    written = model_json(tmp_path / "out" / "config.json")
    assert written["architectures"] == ["Gemma3ForConditionalGeneration"]
    text = written["text_config"]  # with the names that transformers 4 reads
    assert (text["rope_theta"], text["rope_local_base_freq"]) == (1000.0, 100.0)
    assert text["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize(("language", "vision"), PREFIXES)
def test_adapters_of_a_multimodal_model_leave_its_image_encoder(tmp_path, language, vision):
    """PEFT would put adapters in all modules that end with a name, the image encoder's too."""
    folder = model_folder(tmp_path / "model", "gemma3_text")
    text = model_json(folder / "config.json")
    tensors = renamed(folder, lambda name: language + name.removeprefix("model."))
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    module = f"{vision}vision_tower.vision_model.encoder.layers.0.self_attn.q_proj"
    save_file(tensors | {f"{module}.weight": np.ones((2, 2))}, folder / "model.safetensors")
    lm = load(folder, mesh=one_device().mesh)
    adapters = init_adapters(lm.config, LORA, jax.random.key(0), lm.layout)
    export_adapter(lm, adapters, LORA, tmp_path / "out")
    excluded = model_json(tmp_path / "out" / "adapter_config.json")["exclude_modules"]
    assert re.fullmatch(excluded, module)
    names = load_file(tmp_path / "out" / "adapter_model.safetensors").keys()
    base = "base_model.model.model.language_model.layers."
    assert names and all(name.startswith(base) for name in names)
    assert not any(re.fullmatch(excluded, name.removeprefix("base_model.model.")) for name in names)


def test_adapters_of_gpt2_without_prefix_have_the_names_of_its_modules(tmp_path):
    folder = model_folder(tmp_path / "model", "gpt2")
    renamed(folder, lambda name: name.removeprefix("transformer."))
    lm = load(folder, mesh=one_device().mesh)
    adapters = init_adapters(lm.config, LORA, jax.random.key(0), lm.layout)
    export_adapter(lm, adapters, LORA, tmp_path / "out")
    names = load_file(tmp_path / "out" / "adapter_model.safetensors").keys()
    assert names and all(name.startswith("base_model.model.transformer.h.") for name in names)


def test_an_export_lacks_the_mask_buffers_of_an_older_checkpoint(tmp_path):
    """transformers 5 reports them as unexpected."""
    folder = model_folder(tmp_path / "model", "gpt2")
    tensors = renamed(folder, lambda name: name.removeprefix("transformer."))
    buffers = {f"h.{i}.attn.bias": np.tril(np.ones((1, 1, 8, 8), bool)) for i in range(3)}
    save_file(tensors | buffers, folder / "model.safetensors")
    export_hf(load(folder, mesh=one_device().mesh), tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert after.keys() == tensors.keys()


def test_older_spellings_are_the_same_model():
    def config(case, drop, **changes):
        hf = {k: v for k, v in model_json(GOLDEN / case / "config.json").items() if k not in drop}
        return decoder_config(hf | changes, case)

    rope = ("rope_parameters",)
    _, neox, _ = golden_model("gpt_neox")
    assert config("gpt_neox", rope, rotary_pct=0.25, rotary_emb_base=1000) == neox
    _, phi, _ = golden_model("phi")
    assert config("phi", rope, rope_theta=1000.0, partial_rotary_factor=0.5) == phi
    _, gemma3, _ = golden_model("gemma3_text")
    scaling = {"rope_type": "linear", "factor": 8.0}
    older = dict(rope_theta=1000.0, rope_local_base_freq=100.0, rope_scaling=scaling)
    dropped = (*rope, "layer_types")
    assert config("gemma3_text", dropped, sliding_window_pattern=3, **older) == gemma3
    _, phi3, _ = golden_model("phi3")
    scaling = model_json(GOLDEN / "phi3" / "config.json")["rope_parameters"]
    scaling = {"type": "su", **{k: scaling[k] for k in ("short_factor", "long_factor")}}
    older = dict(rope_theta=1000.0, partial_rotary_factor=0.75, rope_scaling=scaling)
    assert config("phi3", rope, **older) == phi3
    assert config("mistral", ("sliding_window",)).windows == (4096,) * 3
    assert config("mistral", (), sliding_window=None).windows == ()


REFUSED = {
    "phi": {"qk_layernorm": True},
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "gemma2": {"use_bidirectional_attention": True},
    "qwen2": {"layer_types": ["full_attention", "linear_attention", "full_attention"]},
    "mistral": {"hidden_act": "quick_gelu"},
    "olmo2": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
    "phi3": {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}},
    "qwen3": {"num_key_value_heads": 3},
    "gemma3_text": {"sliding_window": 0},
    "gpt_neox": {"layer_norm_eps": "small"},
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_not_implemented_is_named(family):
    hf = model_json(GOLDEN / family / "config.json") | REFUSED[family]
    with pytest.raises(UserError) as error:
        decoder_config(hf, "config.json")
    field = next(iter(REFUSED[family]))
    message = str(error.value)
    part = {"rope_parameters": ("yarn", "short_factor")}.get(field, (field,))
    assert "\n" not in message and "config.json" in message
    assert any(name in message for name in part), message


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("gemma3_text", "sliding_window_pattern", 0),
        ("qwen2", "max_window_layers", "all"),
        ("mistral", "layer_types", [["full_attention"]] * 3),
    ],
)
def test_an_invalid_field_of_the_windows_is_named(family, field, value):
    hf = model_json(GOLDEN / family / "config.json") | {"layer_types": None, field: value}
    with pytest.raises(UserError, match=f"config.json: {field}"):
        decoder_config(hf, "config.json")


def test_longrope_beside_its_original_length():
    """A batch takes the factors of its longest sequence; a cache cannot grow across the border."""
    _, short, _ = golden_model("phi3")
    model, config, _ = golden_model("phi3_long")
    assert short.longest(32) == 64 and short.longest(64) == 64 and short.longest(65) == 128
    assert config.longest(16) == 16 and config.longest(17) == 128
    golden = np.load(GOLDEN / "phi3_long" / "golden.npz")
    both = full_logits(model, config, one_device(), golden["tokens"], np.array([24, 16]))
    alone = full_logits(model, config, one_device(), golden["tokens"][1:], np.array([16]))
    np.testing.assert_allclose(both[0], golden["logits"][0], rtol=0, atol=1e-4)
    assert np.abs(both[1, :16] - alone[0, :16]).max() > 0.01


def test_readme_lists_the_families():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.split("| `model_type` | models |\n|-|-|\n")[1].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    types = [name for row in rows for name in row[0].replace("`", "").split(", ")]
    titles = [title for row in rows for title in row[1].split("; ")]
    assert dict(zip(types, titles, strict=True)) == {
        model_type: family.title for model_type, family in FAMILIES.items()
    }


def test_every_family_has_a_golden_case():
    types = {model_json(GOLDEN / case / "config.json")["model_type"] for case in FAMILY_CASES}
    assert set(FAMILIES) - {"llama", "gemma3"} == types
