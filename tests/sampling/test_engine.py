"""The sampling engine against full forward passes, and its own identities and limits."""

import dataclasses
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_forward import next_token_logits
from scipy import stats
from tiny_cases import (
    ALL_MESHES,
    MESHES,
    NO_END,
    TINY,
    prompts,
    sample_layout,
    tiny_model,
    train_layout,
)

from pmc_jax.errors import UserError
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.buckets import largest_batch_shape, prompt_size
from pmc_jax.sampling.engine import Engine, Samples
from pmc_jax.sampling.sampler import GREEDY, Sampler, sample_tokens
from pmc_jax.sampling.snapshot import snapshot

pytestmark = pytest.mark.usefixtures("strict_dtypes")

KEY = jax.random.key(7)
ENDS = (3, 50, 77, 90)  # about one token in 25 of the tiny model's: answers of all lengths up to 40
PROMPTS = prompts(6)
BASE = Engine(
    TINY,
    sample_layout(),
    Sampler(1.0, top_p=0.95),
    num_samples=4,
    max_new_tokens=40,
    end_tokens=ENDS,
    batch_shape=(6, 4),
    prompt_size=prompt_size(PROMPTS),
    min_slots=1,  # compaction down to a single slot, so that tiny batches show it
)


# No compaction where it is not the question: fewer programs to compile.
PLAIN = dataclasses.replace(BASE, max_buckets=1)


@pytest.fixture(scope="module")
def model():
    return tiny_model(train_layout())


@pytest.fixture(scope="module")
def weights(model):
    return snapshot(model, TINY, BASE.layout, jnp.dtype("float32"))


def run(engine: Engine, weights, questions=PROMPTS, *, key=KEY, ids=None, **options) -> Samples:
    """All groups as one, in the order of the prompts."""
    ids = range(len(questions)) if ids is None else ids
    groups = list(engine.generate(weights, questions, key=key, ids=ids, **options))
    order = np.argsort(np.concatenate([g.questions for g in groups]))
    assert sorted(order) == list(range(len(questions)))
    parts = [np.concatenate([getattr(g, f) for g in groups])[order] for f in FIELDS]
    return Samples(np.arange(len(questions)), *parts)


FIELDS = ("tokens", "length", "ended", "is_whole", "mean_nll")


def assert_same(one: Samples, other: Samples):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), field)


ONE_SAMPLE = dict(num_samples=1, batch_shape=(6, 1))


@pytest.fixture(scope="module")
def base(weights):
    return run(BASE, weights)


@pytest.fixture(scope="module")
def free(weights):
    """The same samples with nothing that ends them."""
    return run(dataclasses.replace(BASE, end_tokens=(NO_END,)), weights)


def uniforms(ids, samples: int, steps: int) -> np.ndarray:
    """The draws as the engine's contract says them: by key, id and number of the sample."""
    key, shape = [int(word) for word in jax.random.key_data(KEY)], (steps, BASE.sampler.draws)
    return np.array(
        [
            [np.random.default_rng([*key, i, s]).random(shape, np.float32) for s in range(samples)]
            for i in ids
        ]
    )


def test_samples_are_the_draws_from_full_forward_passes(model, free):
    """Prefill, shared prefix, cache and choice in one: every token of every sample, by its own
    uniform.
    """
    logits = next_token_logits(model, PROMPTS, free.tokens)
    draws = uniforms(range(6), 4, 40)
    draws = jnp.asarray(draws.reshape(-1, draws.shape[-1]))
    expected = sample_tokens(logits.reshape(-1, TINY.vocab_size), draws, BASE.sampler)
    np.testing.assert_array_equal(free.tokens.ravel(), expected)
    assert len(np.unique(free.tokens)) > TINY.vocab_size / 2


def test_greedy_is_the_argmax_of_full_forward_passes(model, weights):
    engine = dataclasses.replace(PLAIN, sampler=GREEDY, end_tokens=(NO_END,), **ONE_SAMPLE)
    samples = run(engine, weights)
    # By induction over positions this is the step-by-step continuation.
    best = next_token_logits(model, PROMPTS, samples.tokens).argmax(-1)
    np.testing.assert_array_equal(samples.tokens, best)
    assert_same(run(engine, weights, key=jax.random.key(8)), samples)


def test_ends(base, free):
    """Each sample is its free continuation up to the first of any of the end tokens."""
    assert set(free.tokens[np.isin(free.tokens, ENDS)].tolist()) == set(ENDS)
    assert not free.ended.any() and (free.length == 40).all()
    for i in np.ndindex(base.length.shape):
        ends = np.flatnonzero(np.isin(free.tokens[i], ENDS))
        n = ends[0] if len(ends) else 40
        assert base.length[i] == n and base.ended[i] == bool(len(ends))
        np.testing.assert_array_equal(base.tokens[i][:n], free.tokens[i][:n])
        assert (base.tokens[i][n:] == -1).all()
    # The case holds early ends, late ends and none.
    assert base.length.min() < 10 and 0 < base.ended.sum() < base.ended.size
    assert base.tokens.dtype == base.length.dtype == np.int32 and base.ended.dtype == bool


def test_keys_and_ids(weights, base):
    assert_same(run(PLAIN, weights), base)
    other = run(PLAIN, weights, key=jax.random.key(8))
    assert (other.tokens[..., 0] != base.tokens[..., 0]).any()
    moved = run(PLAIN, weights, ids=[10, 11, 12, 13, 14, 15])
    assert (moved.tokens[..., 0] != base.tokens[..., 0]).any()
    order = [4, 2, 5, 0, 3, 1]
    turned = run(PLAIN, weights, [PROMPTS[i] for i in order], ids=order)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(turned, field), getattr(base, field)[order])


@pytest.mark.parametrize("batch_shape", [(4, 4), (4, 3), (3, 1), (1, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("expected", [None, [9, 40, 1, 1, 30, 2]], ids=["as given", "long first"])
def test_waiting_changes_no_sample(weights, base, batch_shape, expected):
    """More samples than slots: these are filled again, and the ring of the cache goes round."""
    usage = Usage()
    engine = dataclasses.replace(BASE, batch_shape=batch_shape)
    assert_same(run(engine, weights, expected=expected, usage=usage), base)
    assert usage.useful == int(base.length.sum() + base.ended.sum())


def test_long_answers_begin_first(weights):
    engine = dataclasses.replace(BASE, batch_shape=(4, 1), num_samples=1, max_new_tokens=1)
    groups = engine.generate(weights, PROMPTS, key=KEY, ids=range(6), expected=[9, 40, 1, 1, 30, 2])
    assert [row for g in groups for row in g.questions.tolist()] == [1, 4, 0, 5, 2, 3]


def test_little_compute_is_wasted_on_idle_slots(weights):
    """Many samples over few slots: all but the last ones keep every slot busy."""
    engine = dataclasses.replace(BASE, batch_shape=largest_batch_shape(60, 5, 32), num_samples=5)
    assert engine.batch_shape == (32, 1)
    usage = Usage()
    run(engine, weights, prompts(60), usage=usage)
    assert usage.useful / usage.computed > 0.85


def test_compaction_changes_no_sample_and_saves_work(weights, base):
    compact, steps, plain = Usage(), [], Usage()
    run(BASE, weights, usage=compact, progress=steps.append)
    assert_same(run(PLAIN, weights, usage=plain), base)
    # End tokens count as useful; so does the first token, which is not reported as progress.
    assert compact.useful == plain.useful == int(base.length.sum() + base.ended.sum())
    assert sum(steps) == compact.useful - base.length.size
    longest = int((base.length + base.ended).max())
    assert plain.computed == base.length.size * longest
    assert compact.useful <= compact.computed < plain.computed
    assert_same(run(dataclasses.replace(BASE, decode_chunk=7), weights), base)


def test_limits(weights, base):
    """One token, one sample, one prompt; an answer that ends with its first token."""
    one_token = run(dataclasses.replace(PLAIN, max_new_tokens=1), weights)
    assert one_token.tokens.shape == (6, 4, 1)
    np.testing.assert_array_equal(one_token.tokens[..., 0], base.tokens[..., 0])
    np.testing.assert_array_equal(one_token.ended, base.length == 0)
    one_sample = run(dataclasses.replace(PLAIN, **ONE_SAMPLE), weights)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one_sample, field), getattr(base, field)[:, :1])
    one_prompt = run(dataclasses.replace(PLAIN, batch_shape=(1, 4)), weights, PROMPTS[2:3], ids=[2])
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one_prompt, field), getattr(base, field)[2:3])
    first = int(base.tokens[0, 0, 0])
    silent = dataclasses.replace(
        PLAIN, num_samples=1, max_new_tokens=1, end_tokens=(first,), batch_shape=(1, 1)
    )
    samples = run(silent, weights, PROMPTS[:1])
    assert samples.length.item() == 0 and samples.ended.item() and samples.tokens.item() == -1


def test_no_prompts_no_samples(weights):
    assert list(BASE.generate(weights, [], key=KEY, ids=[])) == []


@pytest.mark.parametrize("prompt", [[1] * 17, []])
def test_prompts_that_do_not_fit_are_named(weights, prompt):
    with pytest.raises(
        UserError, match=rf"prompt 1 has {len(prompt)} tokens, but the engine accepts 1 to 16"
    ):
        next(BASE.generate(weights, [[1], prompt], key=KEY, ids=[0, 1]))


def test_a_shared_prefix_changes_no_sample(weights):
    shared_prefix = (7, 3, 9)
    prompts = [[*shared_prefix, *prompt] for prompt in PROMPTS]
    whole = dataclasses.replace(BASE, prompt_size=prompt_size(prompts))
    apart = dataclasses.replace(BASE, shared_prefix=shared_prefix)
    assert_same(run(apart, weights, prompts), run(whole, weights, prompts))
    with pytest.raises(UserError, match="prompt 0 does not begin with the engine's shared prefix"):
        run(apart, weights, PROMPTS)


def test_one_compile_a_shape(weights, caplog):
    """Whatever the prompts, their number and the draws: no more programs than shapes."""

    def compiled() -> Counter:
        names = re.findall(r"Compiling jit\((\w+)\)", caplog.text)
        caplog.clear()
        return Counter(names)

    engine = dataclasses.replace(BASE, sampler=Sampler(0.875), prompt_size=32)
    buckets = len(engine.buckets())
    with jax.log_compiles():
        run(engine, weights)
        total = compiled()
        assert buckets == 4
        assert total["prefill"] == total["start_batch"] == total["sample_first_tokens"] == 1
        assert 1 < total["decode"] <= buckets and total["compact_batch"] >= 1
        run(engine, weights)
        assert not compiled()
        for seed in range(3):
            run(engine, weights, prompts(7, seed), key=jax.random.key(seed))
        total += compiled()
    # Two prefill shapes, either continued in any batch shape; a compaction goes from one batch
    # shape to a smaller one.
    most = {
        **{"prefill": 2, "sample_first_tokens": 2},
        **{"start_batch": 2 * buckets, "load_prompt": 2 * buckets},
        **{"compact_batch": buckets * (buckets - 1) // 2, "decode": buckets},
    }
    assert all(total[name] <= most[name] for name in most), total


def test_samples_with_log_probabilities_are_the_same(model, weights, base):
    """Mean log-probabilities against full forward passes, at temperature 1 with any sampler."""
    sampler = dataclasses.replace(BASE.sampler, return_logprobs=True)
    samples = run(dataclasses.replace(BASE, sampler=sampler), weights)
    np.testing.assert_array_equal(samples.tokens, base.tokens)
    assert not base.mean_nll[base.length > 0].any()
    logits = next_token_logits(model, PROMPTS, np.maximum(samples.tokens, 0))
    logp = jax.nn.log_softmax(logits, axis=-1)
    spoken = samples.tokens >= 0
    each = np.take_along_axis(logp, np.maximum(samples.tokens, 0)[..., None], -1)[..., 0]
    with np.errstate(invalid="ignore"):
        expected = -np.where(spoken, each, 0).sum(-1) / samples.length
    # float32 sums in another order, over up to 40 tokens.
    np.testing.assert_allclose(samples.mean_nll, expected, atol=1e-4)
    assert np.isnan(samples.mean_nll[samples.length == 0]).all()


def test_an_answer_cools_down(model, weights):
    """Every token is drawn at the temperature of its place, whichever slot it decodes in."""
    sampler = Sampler(3.0, top_p=0.95, temperature_decay_tokens=6, final_temperature=0.5)
    engine = dataclasses.replace(BASE, sampler=sampler, end_tokens=(NO_END,))
    samples = run(engine, weights)
    logits = next_token_logits(model, PROMPTS, samples.tokens)
    draws = uniforms(range(6), 4, 40)
    draws = jnp.asarray(draws.reshape(-1, draws.shape[-1]))
    ages = jnp.tile(jnp.arange(40), 24)
    expected = sample_tokens(logits.reshape(-1, TINY.vocab_size), draws, sampler, ages)
    np.testing.assert_array_equal(samples.tokens.ravel(), expected)


def test_first_tokens_are_distributed_as_the_softmax(model, weights):
    engine = dataclasses.replace(
        BASE, sampler=Sampler(2.0), num_samples=64, max_new_tokens=1, batch_shape=(64, 4)
    )
    samples = run(engine, weights, PROMPTS[:1] * 64)
    first = np.where(samples.length > 0, samples.tokens[..., 0], -1)
    logits = next_token_logits(model, PROMPTS[:1], np.zeros((1, 1, 1), np.int32))[0, 0, 0]
    p = np.exp(logits.astype(np.float64) / 2)
    p /= p.sum()
    # Ends are not told apart in the samples: one class.
    counts = np.bincount(first[first >= 0], minlength=TINY.vocab_size)
    ends = np.isin(np.arange(TINY.vocab_size), ENDS)
    assert not counts[ends].any()
    observed = np.append(counts[~ends], (first < 0).sum())
    expected = np.append(p[~ends], p[ends].sum()) * first.size
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert len(expected) > 20
    # A fixed key, so this fails always or never.
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_bfloat16_weights(model):
    """Runs, and samples tokens that float32 finds likely; no identities are promised in
    bfloat16.
    """
    with jax.numpy_dtype_promotion("standard"):  # jax.nn.dot_product_attention widens silently
        weights = snapshot(model, TINY, BASE.layout, jnp.dtype("bfloat16"))
        engine = dataclasses.replace(
            BASE, sampler=GREEDY, max_new_tokens=12, end_tokens=(NO_END,), **ONE_SAMPLE
        )
        samples = run(engine, weights)
    assert weights.layers[0].qkv_weight.dtype == jnp.bfloat16
    logits = next_token_logits(model, PROMPTS, samples.tokens)
    taken = np.take_along_axis(logits, samples.tokens[..., None], -1)[..., 0]
    # 8 bits of mantissa through two layers: a few percent of the largest logit.
    assert (logits.max(-1) - taken).max() < 0.05 * np.abs(logits).max()


@pytest.mark.parametrize("which", [(), pytest.param(("all",), marks=pytest.mark.slow)], ids=str)
def test_samples_are_the_same_on_every_mesh(on_eight_devices, which):
    result = on_eight_devices("sample", *which)
    assert result["devices"] == 8
    assert len(result["meshes"]) == len(ALL_MESHES if which else MESHES) + 1
    for case in ("meshes", "compacted", "refilled"):
        one = result[case].pop("(1, 1, 1)")
        for mesh, samples in result[case].items():
            assert samples == one, (case, mesh)
    one = result["mean_nll"].pop("(1, 1, 1)")
    for mesh, mean_nll in result["mean_nll"].items():
        # float32 sums in another order, up to 8 tokens.
        np.testing.assert_allclose(mean_nll, one, atol=1e-4, err_msg=mesh)
    assert np.min(one) > 0
