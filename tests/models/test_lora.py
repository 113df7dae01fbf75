"""Low-rank adapters: what is trained, how they are merged, and the folder that PEFT reads."""

import dataclasses
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs as tiny
from golden_models import GOLDEN, cached_greedy, full_logits, golden_model, one_device
from safetensors.numpy import load_file
from tiny_cases import TINY, tiny_model, train_layout, two_terms

import pmc_jax as pmc
from pmc_jax.config.method import MethodConfig
from pmc_jax.config.train import LoRAConfig, TrainConfig
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.hf import to_hf
from pmc_jax.models.load import LanguageModel, model_json
from pmc_jax.models.load import load as plain_load
from pmc_jax.models.lora import adapters, attach, init_adapters, merge
from pmc_jax.models.parameters import A, B
from pmc_jax.models.peft import export_adapter
from pmc_jax.training.losses import Objective
from pmc_jax.training.trainer import Trainer

LORA = LoRAConfig(rank=2, alpha=6.0)
FAMILIES = ("phi3", "gpt_neox", "gpt2")  # projections together in one tensor, three ways


def random_adapters(config, lora=LORA) -> Decoder:
    table = adapters(config, lora)
    keys = jax.random.split(jax.random.key(3), len(table))
    shapes = zip(keys, table.items(), strict=True)
    return Decoder({n: 0.1 * jax.random.normal(k, p.shape) for k, (n, p) in shapes})


def trainer(**lora) -> Trainer:
    settings = TrainConfig(lora=LoRAConfig(**lora))
    return Trainer(tiny_model(train_layout()), TINY, train_layout(), settings, jnp.float32)


def test_new_adapters_change_nothing():
    base, on = tiny_model(train_layout()), train_layout()
    fresh = init_adapters(TINY, LORA, jax.random.key(0), on)
    merged = merge(attach(base, fresh, LORA), config=TINY, layout=on)
    for name, array in base.arrays().items():
        np.testing.assert_array_equal(merged.arrays()[name], array)
    for name, array in fresh.arrays().items():
        inputs = np.prod(array.shape[1:-1]) if name.endswith(A) else None
        assert not array.any() if inputs is None else 0 < abs(array).max() <= inputs**-0.5
    assert len(fresh.arrays()) == 14


def test_kl_is_to_the_model_without_adapters():
    def norms(lambda_retain: float) -> list[float]:
        method = MethodConfig(retain_loss="kl")
        objective = Objective.of(method, lambda_retain=lambda_retain, layers=2, seed=0)
        settings = TrainConfig(lora=LoRAConfig(rank=2))
        model, on = tiny_model(train_layout()), train_layout()
        trained = Trainer(model, TINY, on, settings, jnp.float32, objective=objective)
        return [trained.step(two_terms(), 1e-2)["gradient_norm"] for _ in range(3)]

    without, kept = norms(0.0), norms(10.0)
    # Both models are the same before the first step: differences are float32 rounding.
    assert kept[0] == pytest.approx(without[0], rel=1e-4)
    assert kept[2] != pytest.approx(without[2], rel=1e-3)


def test_only_adapters_are_trained_and_the_loss_falls():
    plain, trained = trainer(), trainer(rank=2)
    batch = two_terms()
    losses = [trained.step(batch, 1e-2)["terms"] for _ in range(20)]
    first = plain.step(batch, 1e-2)["terms"]
    np.testing.assert_allclose(losses[0], first, rtol=1e-6)
    assert sum(losses[-1]) < 0.8 * sum(losses[0])
    names = set(trained.state.model.arrays())
    assert names == set(adapters(TINY, LoRAConfig(rank=2)))
    moments = sum(x.size for x in jax.tree.leaves(trained.state.optimizer))
    assert moments < sum(x.size for x in jax.tree.leaves(plain.state.optimizer)) / 3
    base, merged = tiny_model(train_layout()).arrays(), trained.release().arrays()
    changed = {n for n, x in base.items() if not np.array_equal(x, merged[n])}
    assert changed == {f"layers.{n}" for n in ("q", "k", "v", "o", "gate", "up", "down")}


def test_targets():
    names = trainer(rank=3, targets=("q", "down")).state.model.arrays()
    assert {n: x.shape[1:] for n, x in names.items()} == {
        "layers.q_lora_a": (32, 3),
        "layers.q_lora_b": (3, 8, 8),
        "layers.down_lora_a": (48, 3),
        "layers.down_lora_b": (3, 32),
    }
    with pytest.raises(UserError, match=r"targets.*'w'"):
        LoRAConfig(rank=1, targets=("w",))


@pytest.mark.parametrize("family", FAMILIES)
def test_training_sampling_and_merging_agree(family):
    """The same logits with adapters beside the weights and in them; sampling merges as it goes."""
    model, config, _ = golden_model(family)
    golden = np.load(GOLDEN / family / "golden.npz")
    on = one_device()
    whole = attach(model, random_adapters(config), LORA)
    merged = merge(whole, config=config, layout=on)
    args = config, on, golden["tokens"], golden["lengths"]
    beside, inside = (full_logits(m, *args) for m in (whole, merged))
    for row, length in enumerate(golden["lengths"]):
        # 1e-4: another order of float32 sums.
        np.testing.assert_allclose(beside[row, :length], inside[row, :length], atol=1e-4)
    assert np.abs(inside[0] - golden["logits"][0]).max() > 0.1
    prompts = [golden["tokens"][0].tolist()]
    one, other = (cached_greedy(m, config, on, prompts, 8) for m in (whole, merged))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_folder_gives_the_merged_weights(tmp_path, family):
    """As PEFT merges: W + alpha / r * B A, transposed where the module is [in, out]."""
    model, config, names = golden_model(family)
    trained = random_adapters(config)
    source = str(GOLDEN / family)
    hf, on = model_json(GOLDEN / family / "config.json"), one_device()
    lm = LanguageModel(model, config, names, None, on, on, hf, source, None, {})
    export_adapter(lm, trained, LORA, tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    settings = model_json(tmp_path / "adapter" / "adapter_config.json")
    assert settings["base_model_name_or_path"] == os.path.realpath(source) and settings["r"] == 2
    assert settings["revision"] is settings["exclude_modules"] is None
    merged = merge(attach(model, trained, LORA), config=config, layout=one_device())
    merged = {t.name: array for t, array in to_hf(merged, names, config)}
    found = set()
    for tensor, array in to_hf(model, names, config):
        module = tensor.name.removesuffix(".weight")
        key = f"base_model.model.{module}"
        expected = array
        if f"{key}.lora_A.weight" in saved:
            a, b = (saved[f"{key}.lora_{x}.weight"] for x in "AB")
            suffix = ".".join(module.split(".")[-2:])
            assert suffix in settings["target_modules"]
            pattern = suffix.replace(".", r"\.")
            rank = settings["rank_pattern"].get(pattern, settings["r"])
            alpha = settings["alpha_pattern"].get(pattern, settings["lora_alpha"])
            assert a.shape[0] == b.shape[1] == rank
            change = alpha / rank * b @ a
            expected = array + (change.T if settings["fan_in_fan_out"] else change)
            found |= {f"{key}.lora_{x}.weight" for x in "AB"}
        np.testing.assert_allclose(merged[tensor.name], expected, atol=1e-6, err_msg=tensor.name)
    assert found == set(saved)
    with pytest.raises(UserError, match="not an empty folder"):
        export_adapter(lm, trained, LORA, tmp_path / "adapter")


def test_frozen_base_is_kept_in_the_dtype_of_the_products():
    settings = TrainConfig(lora=LoRAConfig(rank=2))
    on = train_layout()
    small = Trainer(tiny_model(on), TINY, on, settings, jnp.dtype("bfloat16"))
    assert np.isfinite(sum(small.step(two_terms(), 1e-3)["terms"]))
    arrays = small.model.arrays()
    assert {str(x.dtype) for n, x in arrays.items() if not n.endswith((A, B))} == {"bfloat16"}
    assert {str(x.dtype) for n, x in arrays.items() if n.endswith((A, B))} == {"float32"}


def test_command_writes_the_adapter_and_goes_on_from_a_checkpoint(inputs):
    """The run that is cut in two ends with the adapter of the run that is not, bit for bit."""
    lora = ("train.lora.rank=2", "train.lora.alpha=6", "pmc.schedule.epochs=2")
    tiny.succeed("unlearn", *lora, "output.dir=whole")
    tiny.succeed("unlearn", *lora, "output.dir=cut", "output.checkpoint_every=1")
    whole, cut = inputs / "whole", inputs / "cut"
    newest = max((cut / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.rmtree(newest)
    for name in ("model", "adapter"):
        shutil.rmtree(cut / name)
    (cut / "results.json").unlink()
    again = tiny.succeed("unlearn", *lora, "output.dir=cut", "output.checkpoint_every=1")
    assert "the run resumes" in again.out
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


@pytest.mark.slow
def test_command_reads_the_frozen_base_in_the_dtype_of_the_products(inputs, monkeypatch):
    """No float32 copy of the base is ever there; all weights are trained in float32 as before."""
    read = []

    def load(path, *, dtype, **placed):
        read.append(dtype)
        return plain_load(path, dtype=dtype, **placed)

    monkeypatch.setattr("pmc_jax.commands.inputs.load", load)
    half = ("model.compute_dtype=bfloat16", "pmc.schedule.epochs=1")
    tiny.succeed("unlearn", *half, "train.lora.rank=2", "output.dir=adapters")
    tiny.succeed("unlearn", *half, "output.dir=all")
    assert read == ["bfloat16", "float32"]
    before, after = (
        load_file(inputs / name / "model.safetensors") for name in ("model", "adapters/model")
    )
    embed = "model.embed_tokens.weight"
    rounded = before[embed].astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(after[embed], rounded)


def test_master_weights_are_float32_whatever_was_read():
    on = train_layout()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_model(on))
    for donate in (False, True):
        state = Trainer(half, TINY, on, TrainConfig(), jnp.dtype("bfloat16"), donate=donate)
        assert {str(x.dtype) for x in state.model.arrays().values()} == {"float32"}


def test_library_call(inputs, tmp_path):
    lm = pmc.load("model", mesh=one_device().mesh)
    settings = TrainConfig(batch_size=2, learning_rate=1e-2, lora=LoRAConfig(rank=2))
    config = tiny.published(num_samples=2, epochs=1, max_new_tokens=4)
    result = pmc.unlearn(
        lm, ["Who is it ?", "Where ?"], [("a ?", "b")], config=config, train=settings
    )
    result.export_adapter(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    result.lm.save(tmp_path / "merged")
    plain = dataclasses.replace(result, adapters=None)
    with pytest.raises(UserError, match="LoRAConfig"):
        plain.export_adapter(tmp_path / "other")
