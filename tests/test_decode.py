"""The jitted functions of decoding: shared prompts, the cache, what the compiler makes of it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_forward import next_token_logits
from tiny_cases import NO_END, TINY, prompts, sample_layout, tiny_model, train_layout

from pmc_jax.sampling import decode as device
from pmc_jax.sampling.choose import Sampler, choose
from pmc_jax.sampling.weights import snapshot

pytestmark = pytest.mark.usefixtures("strict_dtypes")

SAMPLER = Sampler(1.0, top_p=0.95)
PROMPTS = prompts(6)
LAYOUT = sample_layout()
STATIC = dict(config=TINY, layout=LAYOUT)


@pytest.fixture(scope="module")
def model():
    return tiny_model(train_layout())


@pytest.fixture(scope="module")
def weights(model):
    return snapshot(model, TINY, LAYOUT, jnp.dtype("float32"))


def draws(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def padded(questions) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.zeros((len(questions), 16), np.int32)
    valid = np.zeros(tokens.shape, bool)
    for i, q in enumerate(questions):
        tokens[i, -len(q) :], valid[i, -len(q) :] = q, True
    return tokens, valid


def decode_grid(weights, questions, uniform: np.ndarray, sampler: Sampler):
    """One segment on the device: uniform f32[B,K,T] -> tokens i32[B,K,T] and the first logits
    f32[B,V].
    """
    b, k, steps = uniform.shape
    choice = dict(sampler=sampler, end_tokens=(NO_END,))
    prefix, logits = device.prefill(weights, *padded(questions), **STATIC)
    active, rows = np.ones((b, k), bool), np.arange(b, dtype=np.int32)
    prefix, state = device.start(
        prefix, logits, rows, active, uniform[..., 0], slots=16, **choice, **STATIC
    )
    first = np.asarray(state.last)
    later = np.moveaxis(uniform[..., 1:], -1, 0)
    _, new = device.decode(
        weights, prefix, state, later, jnp.int32(1), jnp.int32(steps), **choice, **STATIC
    )
    return np.concatenate([first[..., None], np.moveaxis(np.asarray(new), 0, -1)], -1), logits


def test_shared_prompt_is_k_copies_of_it(weights):
    uniform = draws(2, 3, 12)
    shared, logits = decode_grid(weights, PROMPTS[:2], uniform, SAMPLER)
    copies, by_copy = decode_grid(
        weights, [p for p in PROMPTS[:2] for _ in range(3)], uniform.reshape(6, 1, 12), SAMPLER
    )
    np.testing.assert_array_equal(shared.reshape(6, 12), copies[:, 0])
    np.testing.assert_allclose(np.repeat(logits, 3, 0), by_copy, atol=1e-5)


def test_cached_logits_are_those_of_full_forward_passes(monkeypatch, model, weights):
    seen = []

    def spy(logits, uniform, sampler):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), logits, ordered=True)
        return choose(logits, uniform, sampler)

    monkeypatch.setattr(device, "choose", spy)
    # A sampler of its own, so that no program compiled with the spy serves another test.
    tokens, _ = decode_grid(weights, PROMPTS[:2], draws(2, 3, 12), Sampler(1.0625))
    jax.effects_barrier()
    cached = np.stack(seen, 1).reshape(2, 3, 12, -1)
    full = next_token_logits(model, PROMPTS[:2], tokens)
    # float32 sums in another order: two layers and the head on logits of size 10.
    np.testing.assert_allclose(cached, full, atol=3e-6 * np.abs(full).max())


def test_decoding_copies_no_cache(weights):
    """The donated cache is updated in place: no copy of its shape in the loop, all of it
    aliased.
    """
    b, k, slots = 6, 4, 48
    n, h = TINY.num_kv_heads, TINY.head_dim
    prefix, logits = device.prefill(weights, *padded(PROMPTS), **STATIC)
    choice = dict(sampler=SAMPLER, end_tokens=(3, 50))
    grid = (np.arange(b, dtype=np.int32), np.ones((b, k), bool), np.zeros((b, k), np.float32))
    prefix, state = device.start(prefix, logits, *grid, slots=slots, **choice, **STATIC)
    uniform, step = np.zeros((16, b, k), np.float32), jnp.int32(1)
    lowered = device.decode.lower(weights, prefix, state, uniform, step, step, **choice, **STATIC)
    program = lowered.compile()
    shapes = {f"f32[{b},{k},{n},{h},{slots}]", f"f32[{b},{k},{n},{slots},{h}]"}
    text = program.as_text()
    assert all(shape in text for shape in shapes)
    copies = re.findall(r"= (f32\[[\d,]+\])\S* (?:copy|copy-start)\(", text)
    assert not shapes.intersection(copies)
    cache = 2 * TINY.num_layers * b * k * n * h * slots * 4
    assert program.memory_analysis().alias_size_in_bytes >= cache
    device.decode(weights, prefix, state, uniform, step, step, **choice, **STATIC)
    assert all(x.is_deleted() for x in (*state.keys, *state.values))
    assert not any(x.is_deleted() for x in prefix.keys)
