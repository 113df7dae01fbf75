"""Token choice against its definition in float64, and its limits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pmc_jax.errors import UserError
from pmc_jax.sampling.sampler import GREEDY, Sampler, nucleus_mass, sample_tokens, top_k_mass

pytestmark = pytest.mark.usefixtures("strict_dtypes")

SAMPLERS = [
    Sampler(),
    Sampler(0.7),
    Sampler(1.3, top_k=5),
    Sampler(1.0, top_p=0.9),
    Sampler(0.9, top_k=20, top_p=0.95),
    Sampler(1.25, top_p=0.3),
    Sampler(1.0, top_p=0.999),
]
KINDS = ("random", "peaky", "tied", "flat")
EXTREMES = np.array([0, np.nextafter(np.float32(1), np.float32(0))], np.float32)


@functools.partial(jax.jit, static_argnames="sampler")
def draw(logits, uniform, sampler):
    return sample_tokens(logits, uniform, sampler)


@functools.partial(jax.jit, static_argnames="sampler")
def mass_and_extremes(logits, sampler):
    """kept_mass, and the tokens that the smallest and the largest uniform draw: one program for
    both.
    """
    shape = (logits.shape[0], sampler.draws)
    low, high = (sample_tokens(logits, jnp.full(shape, u), sampler) for u in EXTREMES)
    return kept_mass(logits, sampler), low, high


def kept_mass(logits, sampler: Sampler):
    """Unnormalised probabilities f32[R,V] after temperature, top-k and top-p."""
    mass = top_k_mass(logits, sampler)
    return mass if sampler.top_p == 1 else nucleus_mass(mass, jnp.sum(mass, -1), sampler.top_p)


@pytest.fixture(autouse=True)
def no_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


def definition(logits: np.ndarray, sampler: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities f64[V] after temperature, top-k and top-p, and the mass strictly above each
    token.
    """
    logits = logits.astype(np.float64) / sampler.temperature
    p = np.exp(logits - logits.max())
    if sampler.top_k:
        p[p < np.sort(p)[::-1][min(sampler.top_k, len(p)) - 1]] = 0
    p /= p.sum()
    above = np.array([p[p > q].sum() for q in p])
    if sampler.top_p < 1:
        p = np.where(above < sampler.top_p, p, 0)
    return p / p.sum(), above


def logits_of(kind: str, rows: int, vocab: int) -> np.ndarray:
    rng = np.random.default_rng(vocab)
    if kind == "random":
        x = rng.normal(size=(rows, vocab))
    elif kind == "peaky":
        x = rng.normal(size=(rows, vocab)) * 12
    elif kind == "tied":  # few values, so that ties fall on every threshold
        x = rng.integers(0, 4, (rows, vocab))
    else:
        x = np.full((rows, vocab), -3.5)
    return x.astype(np.float32)


@pytest.mark.parametrize("vocab", [1, 7, 128, 300])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_kept_mass_is_the_definition(sampler, vocab):
    logits = np.concatenate([logits_of(kind, 12, vocab) for kind in KINDS])
    mass, low, high = map(np.asarray, mass_and_extremes(logits, sampler))
    for row in range(len(logits)):
        expected, above = definition(logits[row], sampler)
        # Mass above within 1e-5 of top_p: float32 sums of 300 terms may fall on either side.
        clear = np.abs(above - sampler.top_p) > 1e-5
        np.testing.assert_array_equal((mass[row] > 0)[clear], (expected > 0)[clear])
        if clear.all():
            # exp in float32 of arguments up to ~60: relative error 60 * 2^-24 and a few roundings.
            ours = mass[row].astype(np.float64)
            np.testing.assert_allclose(ours / ours.sum(), expected, rtol=2e-5)
    np.testing.assert_array_equal(low, (mass > 0).argmax(1))
    assert (np.take_along_axis(mass, high[:, None], 1) > 0).all()


def a_miss(logits: np.ndarray, sampler: Sampler) -> float:
    """A uniform that draws a token outside the nucleus from the distribution before top-p."""
    before, _ = definition(logits, dataclasses.replace(sampler, top_p=1.0))
    after, _ = definition(logits, sampler)
    outside = np.where(after == 0, before, 0).argmax()
    return before[:outside].sum() + before[outside] / 2


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_draws_follow_the_definition(sampler):
    vocab, count = 300, 16384
    logits = logits_of("random", 1, vocab)
    expected, _ = definition(logits[0], sampler)
    rows = np.broadcast_to(logits, (count, vocab))
    # An even grid of uniforms: by inverse CDF every token gets its share, to one draw at each end.
    # With top-p all tries are made to miss: what is left is the inverse CDF of the nucleus.
    uniform = np.full((count, sampler.draws), a_miss(logits[0], sampler), np.float32)
    uniform[:, -1] = (np.arange(count) + 0.5) / count
    even = np.asarray(draw(rows, uniform, sampler))
    counts = np.bincount(even, minlength=vocab)
    assert np.abs(counts - count * expected).max() <= 1.01
    assert np.all(np.diff(even) >= 0)
    # Random uniforms: chi-square; a fixed seed, so this fails always or never.
    uniform = jax.random.uniform(jax.random.key(vocab), (count, sampler.draws))
    counts = np.bincount(np.asarray(draw(rows, uniform, sampler)), minlength=vocab)
    assert not counts[expected == 0].any()
    # Tokens of at least 5 expected draws, the rest together.
    common = count * expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(count * expected[common], count * expected[~common].sum())
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    if len(wanted) > 1:
        assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("vocab", [1024, 1536, 768, 640, 1000])
def test_blocks_of_every_size_invert_the_same_distribution(vocab):
    """Blocks of 128, 64, 32, 16 tokens, and padded ones: the middle of a step draws its token."""
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32)
    p, _ = definition(logits, Sampler())
    tokens = np.arange(0, vocab, 13)
    middle = np.cumsum(p)[tokens] - p[tokens] / 2
    rows = np.tile(logits, (len(tokens), 1))
    drawn = draw(rows, middle[:, None].astype(np.float32), Sampler())
    np.testing.assert_array_equal(drawn, tokens)


def test_masked_tokens_are_never_drawn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4096, 300)).astype(np.float32)
    allowed = rng.random((4096, 300)) < 0.02
    allowed[np.arange(4096), rng.integers(0, 300, 4096)] = True
    logits[~allowed] = -np.inf
    for sampler in (SAMPLERS[0], SAMPLERS[2], SAMPLERS[4]):
        uniform = jax.random.uniform(jax.random.key(0), (4096, sampler.draws))
        token = np.asarray(draw(logits, uniform, sampler))
        assert allowed[np.arange(4096), token].all()


@pytest.mark.parametrize(
    "sampler",
    [GREEDY, Sampler(top_k=1), Sampler(temperature=1e-4), Sampler(top_p=1e-6)],
    ids=str,
)
def test_limits_are_greedy(sampler):
    logits = logits_of("random", 200, 300)
    uniform = jax.random.uniform(jax.random.key(1), (200, sampler.draws))
    np.testing.assert_array_equal(draw(logits, uniform, sampler), logits.argmax(1))


@pytest.mark.parametrize("top_p", [pytest.param(1.0, marks=pytest.mark.slow), 0.9])
def test_the_temperature_cools_with_the_age_of_an_answer(top_p):
    """Row by row the draws are those of a sampler at that row's temperature."""
    logits = logits_of("random", 60, 300)
    cooling = Sampler(4.0, top_k=40, top_p=top_p, temperature_decay_tokens=4, final_temperature=0.5)
    uniform = jax.random.uniform(jax.random.key(2), (60, cooling.draws))
    temperatures = {0: 4.0, 1: 3.125, 2: 2.25, 3: 1.375, 4: 0.5, 9: 0.5}
    for age, temperature in temperatures.items():
        aged = sample_tokens(logits, uniform, cooling, jnp.full(60, age))
        plain = sample_tokens(logits, uniform, Sampler(temperature, top_k=40, top_p=top_p))
        np.testing.assert_array_equal(aged, plain)
    mixed = sample_tokens(logits, uniform, cooling, jnp.arange(60) % 2 * 9)
    hot, cold = (sample_tokens(logits, uniform, cooling, jnp.full(60, age)) for age in (0, 9))
    np.testing.assert_array_equal(mixed, np.where(np.arange(60) % 2, cold, hot))
    assert (np.asarray(hot) != np.asarray(cold)).any()
    np.testing.assert_array_equal(sample_tokens(logits, uniform, cooling), hot)


@pytest.mark.parametrize(
    "fields",
    [{"temperature_decay_tokens": -1}, {"final_temperature": 0.0}, {"temperature": 0.0}],
    ids=str,
)
def test_a_falling_temperature_needs_temperatures(fields):
    with pytest.raises(UserError, match=f"{next(iter(fields))} must be"):
        Sampler(**{"temperature_decay_tokens": 2} | fields)


@pytest.mark.parametrize("top_k", [300, 301, 10_000])
def test_limits_are_off(top_k):
    logits = logits_of("peaky", 20, 300)
    plain = kept_mass(jnp.asarray(logits), Sampler(0.8))
    off = kept_mass(jnp.asarray(logits), Sampler(0.8, top_k=top_k, top_p=1.0))
    np.testing.assert_array_equal(off, plain)


def test_greedy_takes_the_first_of_equal_maxima():
    logits = np.zeros((3, 300), np.float32)
    logits[0, [5, 250]] = logits[1, [128, 129]] = 2.0
    uniform = np.full((3, 1), 0.9, np.float32)
    np.testing.assert_array_equal(draw(logits, uniform, GREEDY), [5, 128, 0])


def test_dtype_and_shape():
    for sampler in (GREEDY, Sampler(top_p=0.9)):
        shapes = (4, 50), (4, sampler.draws)
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        tokens = jax.eval_shape(functools.partial(sample_tokens, sampler=sampler), *arrays)
        assert (tokens.shape, tokens.dtype) == ((4,), jnp.int32)


@pytest.mark.parametrize(
    "fields", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str
)
def test_impossible_settings_are_refused(fields):
    with pytest.raises(UserError, match=f"{next(iter(fields))} must be"):
        Sampler(**fields)


@pytest.mark.parametrize("which", [(), pytest.param(("all",), marks=pytest.mark.slow)], ids=str)
def test_sharded_vocabulary_draws_the_same_tokens(on_eight_devices, which):
    """Rows and vocabulary sharded; the draws are those of one device."""
    result = on_eight_devices("choose", *which)
    assert result.pop("devices") == 8
    for mesh, tokens in result.items():
        assert tokens == result["(1, 1, 1)"], mesh
