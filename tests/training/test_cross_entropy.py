"""Chunked cross-entropy against the plain one, value and gradients."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_cases import train_layout

from pmc_jax.training import cross_entropy as losses
from pmc_jax.training.cross_entropy import cross_entropy

D, V = 16, 77


def case(rows: int, slots: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, slots, D)).astype(np.float32)
    embedding = rng.normal(size=(V, D)).astype(np.float32)
    targets = rng.integers(0, V, (rows, slots)).astype(np.int32)
    weights = rng.random((rows, slots)).astype(np.float32)
    weights[rng.random((rows, slots)) < 0.3] = 0
    return hidden, embedding, targets, weights


def plain(hidden, embedding, targets, weights):
    """Loss, cross-entropies and both gradients in float64."""
    h, e = hidden.astype(np.float64), embedding.astype(np.float64)
    logits = h @ e.T
    peak = logits.max(-1, keepdims=True)
    log_total = peak + np.log(np.exp(logits - peak).sum(-1, keepdims=True))
    each = -np.take_along_axis(logits - log_total, targets[..., None], -1)[..., 0]
    slope = (np.exp(logits - log_total) - np.eye(V)[targets]) * weights[..., None]
    return (weights * each).sum(), each, slope @ e, np.einsum("rav,rad->vd", slope, h)


@functools.cache
def compiled(scale: float = 1.0):
    on = train_layout()

    def loss(hidden, embedding, targets, weights):
        value, each = cross_entropy(hidden, embedding, None, targets, weights, on)
        return scale * value, each

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def check(ours, expected, *, scale=1.0, rtol=2e-6, atol=2e-6):
    (value, each), (hidden_gradient, embedding_gradient) = ours
    loss, each_expected, by_hidden, by_embedding = expected
    np.testing.assert_allclose(value, scale * loss, rtol=rtol)
    np.testing.assert_allclose(each, each_expected, rtol=rtol, atol=atol)
    for gradient, right in (
        (hidden_gradient, scale * by_hidden),
        (embedding_gradient, scale * by_embedding),
    ):
        size = np.abs(right).max()
        np.testing.assert_allclose(np.asarray(gradient, np.float64), right, atol=atol * 5 * size)


# 512 positions a chunk: one chunk, several with padding at the end, several that fit, R above 512.
@pytest.mark.parametrize(("rows", "slots"), [(1, 1), (3, 37), (64, 19), (64, 16), (600, 2)])
def test_value_and_gradients_are_the_plain_ones(rows, slots):
    arrays = case(rows, slots)
    # float32 against float64: sums of 16 products and of 77 exponentials, a few units of 2^-24.
    check(compiled()(*arrays), plain(*arrays))


def test_chunks_of_one_position(monkeypatch):
    monkeypatch.setattr(losses, "_POSITIONS_A_CHUNK", 1)
    arrays = case(2, 5)
    compiled.cache_clear()
    check(compiled()(*arrays), plain(*arrays))
    compiled.cache_clear()


def test_incoming_gradient_scales_both():
    arrays = case(3, 37)
    check(compiled(-2.5)(*arrays), plain(*arrays), scale=-2.5)


@pytest.mark.parametrize("cap", [None, 2.0])
def test_bias_and_softcap(cap):
    """Against the same formula without chunks, differentiated by jax."""
    hidden, embedding, targets, weights = map(jnp.asarray, case(3, 37))
    bias = jnp.asarray(np.random.default_rng(1).normal(size=V), jnp.float32)

    def whole(h, e, b):
        logits = jnp.einsum("rad,vd->rav", h, e) + b
        logits = logits if cap is None else cap * jnp.tanh(logits / cap)
        each = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
        return jnp.sum(weights * each)

    def chunked(h, e, b):
        return cross_entropy(h, e, b, targets, weights, train_layout(), cap)[0]

    arguments = hidden, embedding, bias
    value, gradients = jax.jit(jax.value_and_grad(chunked, (0, 1, 2)))(*arguments)
    expected, right = jax.jit(jax.value_and_grad(whole, (0, 1, 2)))(*arguments)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    for ours, theirs in zip(gradients, right, strict=True):
        size = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * size)


def test_without_gradient_the_same_value():
    arrays = case(64, 19)
    hidden, embedding, *rest = arrays
    run = jax.jit(lambda *a: cross_entropy(*a[:2], None, *a[2:], train_layout()))
    loss, each = run(hidden, embedding, *rest)
    expected = plain(*arrays)
    np.testing.assert_allclose(loss, expected[0], rtol=2e-6)
    np.testing.assert_allclose(each, expected[1], rtol=2e-6, atol=2e-6)


def test_zero_weights_leave_no_trace():
    hidden, embedding, targets, weights = case(3, 37)
    (_, _), (by_hidden, by_embedding) = compiled()(hidden, embedding, targets, weights)
    assert not np.asarray(by_hidden)[weights == 0].any()
    other = np.where(weights == 0, (targets + 1) % V, targets)
    moved = np.where(weights[..., None] == 0, hidden[::-1], hidden)
    (_, _), (_, again) = compiled()(moved, embedding, other, weights)
    np.testing.assert_array_equal(by_embedding, again)
    (value, each), gradients = compiled()(hidden, embedding, targets, np.zeros_like(weights))
    assert value == 0 and np.isfinite(each).all()
    assert not any(np.asarray(g).any() for g in gradients)


def test_large_logits_do_not_overflow():
    hidden, embedding, targets, weights = case(3, 37)
    arrays = (hidden * 40, embedding, targets, weights)
    (value, each), gradients = compiled()(*arrays)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in (each, *gradients))
    # Logits of several hundred: their float32 rounding is 3e-5 absolute.
    np.testing.assert_allclose(value, plain(*arrays)[0], rtol=1e-5)


@pytest.mark.parametrize("embedding_dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_hidden(embedding_dtype):
    hidden, embedding, targets, weights = case(64, 19)
    hidden, embedding = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(embedding, embedding_dtype)
    rounded = np.asarray(embedding.astype(jnp.bfloat16), np.float32)
    (value, each), gradients = compiled()(hidden, embedding, targets, weights)
    assert value.dtype == each.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [jnp.bfloat16, embedding_dtype]
    expected = plain(np.asarray(hidden, np.float32), rounded, targets, weights)
    # Products of bfloat16 accumulate in float32, so the loss of the rounded inputs is met closely;
    # the slopes are rounded to bfloat16 (2^-9) before the products that give the gradients.
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(each, expected[1], rtol=1e-5, atol=1e-5)
    for gradient, right in zip(gradients, expected[2:], strict=True):
        gradient = np.asarray(gradient, np.float64)
        assert np.abs(gradient - right).max() < 2**-7 * np.abs(right).max()


def test_all_logits_never_exist_at_once():
    rows, slots, vocab = 2, 2048, 1000
    shapes = (
        jax.ShapeDtypeStruct((rows, slots, D), jnp.float32),
        jax.ShapeDtypeStruct((vocab, D), jnp.float32),
        jax.ShapeDtypeStruct((rows, slots), jnp.int32),
        jax.ShapeDtypeStruct((rows, slots), jnp.float32),
    )
    program = compiled().lower(*shapes).compile()
    sizes = [
        math.prod(map(int, dims.split(",")))
        for dims in re.findall(r"\b(?:f32|bf16|s32|pred)\[([\d,]+)\]", program.as_text())
    ]
    # A chunk is 512 positions; slots shared by the rows.
    assert 512 * vocab in sizes
    assert max(sizes) < rows * slots * vocab / 4
    assert program.memory_analysis().temp_size_in_bytes < rows * slots * vocab * 4


def test_no_silent_widening(strict_dtypes):
    arrays = case(3, 4)
    loss = lambda h, e, t, w: cross_entropy(h, e, None, t, w, train_layout())[0]  # noqa: E731
    jax.eval_shape(jax.grad(loss, argnums=(0, 1)), *arrays)
