"""The jitted functions of decoding: shared prompts, the cache, what the compiler makes of it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_forward import next_token_logits
from tiny_cases import NO_END, TINY, prompts, sample_layout, tiny_model, train_layout

from pmc_jax.models.config import RopeConfig
from pmc_jax.sampling.decode import (
    Slots,
    decode,
    load_prompt,
    sample_first_tokens,
    start_batch,
)
from pmc_jax.sampling.prefill import prefill
from pmc_jax.sampling.sampler import Sampler, sample_tokens
from pmc_jax.sampling.snapshot import snapshot

pytestmark = pytest.mark.usefixtures("strict_dtypes")

SAMPLER = Sampler(1.0, top_p=0.95)
PROMPTS = prompts(6)
LAYOUT = sample_layout()
STATIC = dict(config=TINY, layout=LAYOUT)
NO_PREFIX = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def model():
    return tiny_model(train_layout())


@pytest.fixture(scope="module")
def weights(model):
    return snapshot(model, TINY, LAYOUT, jnp.dtype("float32"))


def draws(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def padded(questions, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.zeros((len(questions), size), np.int32)
    valid = np.zeros(tokens.shape, bool)
    for i, q in enumerate(questions):
        tokens[i, -len(q) :], valid[i, -len(q) :] = q, True
    return tokens, valid


def decode_batch(weights, questions, uniform: np.ndarray, sampler: Sampler):
    """One call on the device: uniform f32[B,K,T,draws] -> tokens i32[B,K,T] and the first
    logits f32[B,V].
    """
    b, k, steps, _ = uniform.shape
    prompts, logits = prefill(weights, NO_PREFIX, *padded(questions), **STATIC)
    first, _ = sample_first_tokens(logits, uniform[:, :, 0], sampler=sampler, layout=LAYOUT)
    rows = np.arange(b, dtype=np.int32)
    prompts, cache = start_batch(prompts, rows, slots=k, cache_size=16, layout=LAYOUT)
    ones = np.ones((b, k), np.int32)
    _, new, _ = decode(
        weights,
        prompts,
        cache,
        Slots(np.asarray(first), ones, (steps - 1) * ones),
        np.moveaxis(uniform[:, :, 1:], 2, 0),
        jnp.int32(0),
        jnp.int32(0),
        sampler=sampler,
        end_tokens=(NO_END,),
        **STATIC,
    )
    first, new = np.asarray(first)[..., None], np.moveaxis(np.asarray(new), 0, -1)
    return np.concatenate([first, new], -1), logits


def test_shared_prompt_is_k_copies_of_it(weights):
    uniform = draws(2, 3, 12, SAMPLER.draws)
    shared, logits = decode_batch(weights, PROMPTS[:2], uniform, SAMPLER)
    copies, by_copy = decode_batch(
        weights, [p for p in PROMPTS[:2] for _ in range(3)], uniform.reshape(6, 1, 12, -1), SAMPLER
    )
    np.testing.assert_array_equal(shared.reshape(6, 12), copies[:, 0])
    np.testing.assert_allclose(np.repeat(logits, 3, 0), by_copy, atol=1e-5)


@pytest.mark.parametrize("windows", [(), (4, 0)])
def test_a_shared_prefix_prefilled_once_changes_no_prompt(weights, windows):
    config = dataclasses.replace(
        TINY, windows=windows, local_rope=RopeConfig(theta=100.0) if windows else None
    )
    shared_prefix = np.arange(1, 6, dtype=np.int32)
    static = dict(config=config, layout=LAYOUT)
    apart = prefill(weights, shared_prefix, *padded(PROMPTS), **static)
    questions = [[*shared_prefix, *prompt] for prompt in PROMPTS]
    whole = prefill(weights, NO_PREFIX, *padded(questions, 32), **static)
    # float32 sums in another order.
    np.testing.assert_allclose(apart[1], whole[1], atol=3e-6 * np.abs(whole[1]).max())
    for i in range(len(PROMPTS)):
        one, other = (np.asarray(cache.valid[i]) for cache, _ in (apart, whole))
        assert one.sum() == other.sum() == len(questions[i])
        for a, b in zip(apart[0].keys, whole[0].keys, strict=True):
            np.testing.assert_allclose(a[i][..., one], b[i][..., other], atol=3e-5)
        for a, b in zip(apart[0].values, whole[0].values, strict=True):
            np.testing.assert_allclose(a[i][:, one], b[i][:, other], atol=3e-5)


def test_cached_logits_are_those_of_full_forward_passes(monkeypatch, model, weights):
    seen = []

    def spy(logits, uniform, sampler, age=None):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), logits, ordered=True)
        return sample_tokens(logits, uniform, sampler, age)

    monkeypatch.setattr("pmc_jax.sampling.decode.sample_tokens", spy)
    # A sampler of its own, so that no program compiled with the spy serves another test.
    tokens, _ = decode_batch(weights, PROMPTS[:2], draws(2, 3, 12, 1), Sampler(1.0625))
    jax.effects_barrier()
    cached = np.stack(seen, 1).reshape(2, 3, 12, -1)
    full = next_token_logits(model, PROMPTS[:2], tokens)
    # float32 sums in another order: two layers and the head on logits of size 10.
    np.testing.assert_allclose(cached, full, atol=3e-6 * np.abs(full).max())


@pytest.mark.parametrize("batch_shape", [(6, 4), (8, 1)])
def test_decoding_copies_no_cache(weights, batch_shape):
    """The donated cache is updated in place: no copy of its shape in the loop, all of it
    aliased.
    """
    (b, k), cache_size = batch_shape, 48
    n, h = TINY.num_kv_heads, TINY.head_dim
    prompts, _ = prefill(weights, NO_PREFIX, *padded(PROMPTS), **STATIC)
    rows, zeros = np.zeros(b, np.int32), np.zeros((b, k), np.int32)
    prompts, cache = start_batch(prompts, rows, slots=k, cache_size=cache_size, layout=LAYOUT)
    slots = Slots(zeros, zeros + 1, zeros + 8)
    uniform = np.zeros((16, b, k, SAMPLER.draws), np.float32)
    arguments = (weights, prompts, cache, slots, uniform, jnp.int32(0), jnp.int32(0))
    choice = dict(sampler=SAMPLER, end_tokens=(3, 50))
    program = decode.lower(*arguments, **choice, **STATIC).compile()
    shapes = {f"f32[{b * k},{n},{h},{cache_size}]", f"f32[{b * k},{n},{cache_size},{h}]"}
    text = program.as_text()
    assert all(shape in text for shape in shapes)
    copies = re.findall(r"= (f32\[[\d,]+\])\S* (?:copy|copy-start)\(", text)
    assert not shapes.intersection(copies)
    size = 2 * TINY.num_layers * b * k * n * h * cache_size * 4
    assert program.memory_analysis().alias_size_in_bytes >= size
    decode(*arguments, **choice, **STATIC)
    assert all(x.is_deleted() for x in (*cache.keys, *cache.values))
    assert not any(x.is_deleted() for x in prompts.keys)


def test_loading_a_prompt_changes_its_row_alone(weights):
    prompts, _ = prefill(weights, NO_PREFIX, *padded(PROMPTS), **STATIC)
    rows = np.array([0, 1, 2], np.int32)
    batch, _ = start_batch(prompts, rows, slots=2, cache_size=16, layout=LAYOUT)
    before = [np.array(x) for x in jax.tree.leaves(batch)]  # a view would keep the buffer
    after = load_prompt(batch, prompts, jnp.int32(1), jnp.int32(5), layout=LAYOUT)
    assert all(x.is_deleted() for x in jax.tree.leaves(batch))
    for old, new, source in zip(before, *map(jax.tree.leaves, (after, prompts)), strict=True):
        np.testing.assert_array_equal(new, np.stack([old[0], source[5], old[2]]))


def test_decoding_stops_when_few_slots_are_active(weights):
    """No step runs once no more than `stop_when_active` slots decode; idle slots return nothing."""
    prompts, _ = prefill(weights, NO_PREFIX, *padded(PROMPTS), **STATIC)
    rows = np.arange(3, dtype=np.int32)
    prompts, cache = start_batch(prompts, rows, slots=2, cache_size=16, layout=LAYOUT)
    left = np.array([[0, 9], [2, 4], [6, 7]], np.int32)
    _, tokens, _ = decode(
        weights,
        prompts,
        cache,
        Slots(np.ones((3, 2), np.int32), np.ones((3, 2), np.int32), left),
        draws(16, 3, 2, 1),
        jnp.int32(0),
        jnp.int32(2),
        sampler=Sampler(),
        end_tokens=(NO_END,),
        **STATIC,
    )
    # After six steps the slots with 7 and 9 are left.
    np.testing.assert_array_equal((np.asarray(tokens) >= 0).sum(0), np.minimum(left, 6))
