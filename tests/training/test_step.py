"""The training step against a plain loss, a plain AdamW, and itself on other meshes."""

import ast
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_cases import (
    ALL_MESHES,
    MESHES,
    TINY,
    packer,
    sequences,
    tiny_model,
    train_layout,
    two_terms,
)

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.config.run import TrainConfig
from pmc_jax.config.train import AdamWConfig
from pmc_jax.models.decoder import Decoder, hidden_states, logits
from pmc_jax.models.parameters import num_parameters
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.step import batch_loss, init_state, train_step
from pmc_jax.training.step_config import StepConfig, learning_rate, make_optimizer
from pmc_jax.training.trainer import Trainer

ON = train_layout()
# Adam hides a wrong scale of the gradient; with a large epsilon and no memory it shows it.
PLAIN = dict(
    learning_rate=1e-2, adamw=AdamWConfig(epsilon=1.0, weight_decay=0.0, beta1=0.0, beta2=0.0)
)
SETTINGS = TrainConfig(learning_rate=1e-3, warmup_steps=2, adamw=AdamWConfig(weight_decay=0.1))


def step_config(settings: TrainConfig = SETTINGS, **options) -> StepConfig:
    static = StepConfig.of(settings, TINY, ON, jnp.dtype("float32"))
    return dataclasses.replace(static, **{"remat": "none"} | options)


@pytest.fixture(scope="module")
def model() -> Decoder:
    return tiny_model(train_layout())


@functools.cache
def loss_and_gradient(remat: str = "none"):
    loss = functools.partial(batch_loss, static=step_config(remat=remat))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def micro(batch: TrainBatch, m: int = 0) -> TrainBatch:
    """One micro-batch, as `batch_loss` takes it."""
    whole = {
        "coefficients": batch.coefficients,
        "prefix": batch.prefix,
        "loss_weights": batch.loss_weights[:, m],
    }
    own = {k: v for k, v in batch._asdict().items() if k not in whole and v is not None}
    return TrainBatch(**whole, **{k: v[m] for k, v in own.items()})


def padded(rows) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(s) for s in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int32)
    for row, s in zip(tokens, rows, strict=True):
        row[: len(s)] = s.tokens
    return tokens, lengths


def plain_loss(model, rows, coefficient_of_row):
    """Sum over rows of coefficient x sum of the answer's cross-entropies: a row each, prefix and
    all.
    """
    tokens, lengths = padded(rows)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    segments = (positions < lengths[:, None]).astype(np.int32)
    answers = (positions[:, 1:] >= np.array([s.begin for s in rows])[:, None]) & (
        segments[:, 1:] > 0
    )
    on = train_layout()
    hidden = hidden_states(model, TINY, on, tokens, positions, segments)
    log_p = jax.nn.log_softmax(logits(model, TINY, hidden, on)[:, :-1])
    each = -jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.sum(np.asarray(coefficient_of_row, np.float32)[:, None] * answers * each)


def answer_tokens(rows) -> list[int]:
    return [len(s) - s.begin for s in rows]


def test_packed_loss_and_gradient_are_those_of_single_rows(model):
    rows = sequences(16)
    batch = micro(two_terms(8))
    assert batch.prefix.size == 3 and batch.tokens.shape[0] < 16  # prefix left out, rows packed
    (loss, terms), gradient = loss_and_gradient()(model, batch)
    # Mean over the answer tokens of each term; the second forget row has weight 0.
    tokens = np.array(answer_tokens(rows), np.float32)
    tokens[1] = 0
    share = np.concatenate([(tokens[:8] > 0) / tokens[:8].sum(), np.full(8, 1 / tokens[8:].sum())])
    by_term = share * np.repeat([1.0, 1.25], 8)
    plain = jax.jit(jax.value_and_grad(lambda m, c: plain_loss(m, rows, c)), static_argnums=1)
    expected, expected_gradient = plain(model, tuple(by_term))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(terms[0] + 1.25 * terms[1], expected, rtol=1e-5)
    forget = plain_loss(model, rows, np.concatenate([share[:8], np.zeros(8)]))
    np.testing.assert_allclose(terms[0], forget, rtol=1e-5)
    for name, g in gradient.arrays().items():
        right = np.asarray(expected_gradient.arrays()[name])
        # float32 sums in another order, through softmax and two layers.
        np.testing.assert_allclose(g, right, rtol=0, atol=2e-5 * np.abs(right).max(), err_msg=name)


def test_a_batch_without_a_shared_prefix(model):
    rows = sequences(4, prefix=0)
    batch = micro(packer(rows).pack([rows], (1.0,)))
    assert batch.prefix.size == 0
    (loss, _), _ = loss_and_gradient()(model, batch)
    share = np.full(4, 1 / sum(answer_tokens(rows)))
    np.testing.assert_allclose(loss, plain_loss(model, rows, share), rtol=1e-5)


def test_rows_of_weight_zero_are_as_if_absent(model):
    rows = sequences(6)
    weights = [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]
    packed = packer(rows).pack([rows[:3], rows[3:]], (1.0, 1.25), weights=weights)
    absent = packer(rows).pack([[rows[0], rows[2]], rows[3:]], (1.0, 1.25))
    for ours, other in zip(packed, absent, strict=True):
        np.testing.assert_array_equal(ours, other)
    nothing = packer(rows).pack([rows[:3], rows[3:]], (1.0, 1.25), weights=[[0.0] * 3, [1.0] * 3])
    (loss, terms), _ = loss_and_gradient()(model, micro(nothing))
    assert terms[0] == 0 and terms[1] > 0
    np.testing.assert_allclose(loss, 1.25 * terms[1], rtol=1e-6)


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_rematerialisation_changes_nothing(model, remat):
    batch = micro(two_terms(4))
    (loss, terms), gradient = loss_and_gradient()(model, batch)
    (again, terms_again), gradient_again = loss_and_gradient(remat)(model, batch)
    # The same operations; XLA may fuse, and so round, them otherwise.
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    np.testing.assert_allclose(terms_again, terms, rtol=1e-6)
    for name, g in gradient.arrays().items():
        atol = 1e-5 * float(jnp.abs(g).max())
        np.testing.assert_allclose(gradient_again.arrays()[name], g, rtol=0, atol=atol)


def new_state(model: Decoder, static: StepConfig):
    """A state of its own: `init_state` takes over the buffers that it is given."""
    return init_state(jax.tree.map(jnp.copy, model), static=static)


def take_step(model, batch: TrainBatch, settings: TrainConfig, rate=None, state=None):
    static = step_config(settings)
    state = new_state(model, static) if state is None else state
    rate = np.float32(settings.learning_rate if rate is None else rate)
    return train_step(state, TrainBatch.put(batch, ON), rate, static=static)


def assert_weights_close(one: Decoder, other: Decoder, atol: float):
    for name, array in one.arrays().items():
        np.testing.assert_allclose(array, other.arrays()[name], rtol=0, atol=atol, err_msg=name)


def test_biases_and_norms_may_be_left_out_of_the_decay(model):
    """With a gradient of 0, a step multiplies a weight by 1 - rate · decay, 0.9 here."""
    arrays = model.arrays()
    arrays |= {"layers.q_bias": arrays["norm"], "head_bias": arrays["norm"]}
    weights, zero = Decoder(arrays), Decoder(jax.tree.map(jnp.zeros_like, arrays))
    for decay_on, expected in (("all", 0.9), ("matrices", 1.0)):
        adamw = AdamWConfig(weight_decay=0.2, decay_on=decay_on)
        static = step_config(TrainConfig(adamw=adamw))
        updates, _ = static.optimizer.update(zero, static.optimizer.init(weights), weights)
        new = optax.apply_updates(weights, jax.tree.map(lambda u: 0.5 * u, updates)).arrays()
        kept = {n for n in arrays if n.endswith("norm") or n.endswith("bias")}
        assert {"norm", "layers.mlp_norm", "layers.q_bias", "head_bias"} <= kept < set(arrays)
        for name, array in arrays.items():
            factor = expected if name in kept else 0.9
            np.testing.assert_allclose(new[name], factor * array, rtol=1e-6, err_msg=name)


def test_accumulation_is_one_large_batch(model):
    settings = TrainConfig(**PLAIN)
    two = two_terms(8, micro_batches=2)
    assert two.tokens.shape[0] == 2
    merged = {
        k: np.concatenate(np.moveaxis(v, 1, 0), 1)[:, None] if k == "loss_weights"
        else v if k in ("coefficients", "prefix") else np.concatenate(v)[None]
        for k, v in two._asdict().items()
        if v is not None
    }  # fmt: skip
    state, metrics = take_step(model, two, settings)
    other, expected = take_step(model, TrainBatch(**merged), settings)
    np.testing.assert_allclose(metrics["terms"], expected["terms"], rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], expected["gradient_norm"], rtol=1e-5)
    assert_weights_close(state.model, other.model, 1e-6)


def test_steps_are_adamw_under_the_schedule(model):
    """Five steps against AdamW (arXiv 1711.05101) in float64, with the schedule of transformers."""
    total, batch = 10, two_terms(4)
    s = SETTINGS
    weights = {n: np.asarray(a, np.float64) for n, a in model.arrays().items()}
    first = {n: np.zeros_like(w) for n, w in weights.items()}
    second = {n: np.zeros_like(w) for n, w in weights.items()}
    state = None
    for step in range(5):
        before = model if state is None else jax.tree.map(jnp.copy, state.model)
        (_, terms), gradient = loss_and_gradient()(before, micro(batch))
        gradient = {n: np.asarray(g, np.float64) for n, g in gradient.arrays().items()}
        rise, fall = step / max(1, s.warmup_steps), (total - step) / (total - s.warmup_steps)
        rate = s.learning_rate * (rise if step < s.warmup_steps else max(0.0, fall))
        for n, g in gradient.items():
            first[n] = s.adamw.beta1 * first[n] + (1 - s.adamw.beta1) * g
            second[n] = s.adamw.beta2 * second[n] + (1 - s.adamw.beta2) * g * g
            mean, square = (
                first[n] / (1 - s.adamw.beta1 ** (step + 1)),
                second[n] / (1 - s.adamw.beta2 ** (step + 1)),
            )
            update = mean / (np.sqrt(square) + s.adamw.epsilon) + s.adamw.weight_decay * weights[n]
            weights[n] = weights[n] - rate * update
        state, metrics = take_step(model, batch, s, learning_rate(s, total, step), state)
        assert int(state.step) == step + 1
        np.testing.assert_allclose(metrics["terms"], terms, rtol=1e-5)
        norm = math.sqrt(sum((g * g).sum() for g in gradient.values()))
        np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
        if step == 0:  # the warm-up starts at 0
            assert_weights_close(state.model, model, 0.0)
        for n, w in weights.items():
            # Adam divides by the gradient's own size, so rounding of tiny gradients counts:
            # a hundredth of one update of size 1e-3.
            np.testing.assert_allclose(state.model.arrays()[n], w, rtol=0, atol=1e-5, err_msg=n)


@pytest.mark.parametrize("decay", ["linear", "none"])
def test_schedule_reaches_zero_or_keeps_its_peak(decay):
    for warmup, total in ((0, 4), (2, 6), (6, 250), (3, 4)):
        settings = TrainConfig(learning_rate=2.0, warmup_steps=warmup, decay=decay)
        for step in range(total + 2):
            if step < warmup:
                expected = step / max(1, warmup)
            elif decay == "none":
                expected = 1.0
            else:
                expected = max(0.0, (total - step) / max(1, total - warmup))
            assert learning_rate(settings, total, step) == pytest.approx(2.0 * expected)


def test_clipping(model):
    """A gradient above the norm is scaled down to it; the reported norm is the one before."""
    (_, _), gradient = loss_and_gradient()(model, micro(two_terms(4)))
    gradient = {n: np.asarray(g, np.float64) for n, g in gradient.arrays().items()}
    norm = math.sqrt(sum((g * g).sum() for g in gradient.values()))
    # With beta 0 and epsilon 1 one step is rate x g / (|g| + 1): it shows the scale of g.
    settings = TrainConfig(**PLAIN, max_grad_norm=norm / 8)
    state, metrics = take_step(model, two_terms(4), settings)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    for name, g in gradient.items():
        g = g / 8
        expected = np.asarray(model.arrays()[name]) - 1e-2 * g / (np.abs(g) + 1)
        np.testing.assert_allclose(state.model.arrays()[name], expected, rtol=0, atol=1e-6)


def test_a_gradient_below_the_norm_is_kept():
    weights = {"w": jnp.ones((3, 2))}
    gradient = {"w": jnp.arange(6.0).reshape(3, 2)}
    updates = []
    for norm in (None, 1e3):
        optimizer = make_optimizer(PLAIN["adamw"], norm)
        updates.append(optimizer.update(gradient, optimizer.init(weights), weights)[0]["w"])
    np.testing.assert_array_equal(*updates)


def test_states_are_donated(model):
    static = step_config()
    own = jax.tree.map(jnp.copy, model)
    state = init_state(own, static=static)
    assert all(x.is_deleted() for x in jax.tree.leaves(own))
    batch = TrainBatch.put(two_terms(4), ON)
    rate = np.float32(1e-3)
    program = train_step.lower(state, batch, rate, static=static).compile()
    # Weights and both moments, float32, are updated in place.
    assert program.memory_analysis().alias_size_in_bytes >= 3 * 4 * num_parameters(TINY)
    new, _ = train_step(state, batch, rate, static=static)
    assert all(x.is_deleted() for x in jax.tree.leaves((state.model, state.optimizer)))
    assert not any(x.is_deleted() for x in jax.tree.leaves((model, new, batch)))


def test_one_compile_a_shape(model):
    static = step_config()
    assert step_config(TrainConfig(**vars(SETTINGS))) == static
    state = new_state(model, static)
    programs, shapes = [train_step._cache_size()], set()
    for _ in range(2):
        for seed in range(4):
            batch = TrainBatch.put(two_terms(4, seed=seed), ON)
            shapes.add(tuple(x.shape for x in jax.tree.leaves(batch)))
            state, _ = train_step(state, batch, np.float32(1e-3 * seed), static=static)
        programs.append(train_step._cache_size())
    assert programs[1] - programs[0] <= len(shapes) < 4
    assert programs[2] == programs[1]


def test_no_silent_widening(strict_dtypes, model):
    loss = functools.partial(batch_loss, static=step_config())
    jax.eval_shape(jax.grad(loss, has_aux=True), model, micro(two_terms(4)))


def test_bfloat16_compute_keeps_float32_weights(model):
    batch = TrainBatch.put(two_terms(4), ON)
    static = step_config(dtype=jnp.dtype("bfloat16"))
    state, metrics = train_step(new_state(model, static), batch, 1e-3, static=static)
    assert {x.dtype for x in jax.tree.leaves(state.model)} == {jnp.dtype("float32")}
    _, expected = take_step(model, two_terms(4), SETTINGS)
    # 8 bits of mantissa in every product.
    np.testing.assert_allclose(metrics["terms"], expected["terms"], rtol=0.03)


def test_ten_steps_lower_the_loss(model):
    state, losses = None, []
    for _ in range(10):
        state, metrics = take_step(model, two_terms(4), SETTINGS, state=state)
        losses.append(float(metrics["terms"].sum()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("which", [(), pytest.param(("all",), marks=pytest.mark.slow)], ids=str)
def test_meshes_train_as_one_device(on_eight_devices, which):
    result = on_eight_devices("train", *which)
    assert result.pop("devices") == 8
    one = result.pop("(1, 1, 1)")
    assert one["sharded"] == 0 and one["terms"][-1] != one["terms"][0]
    assert len(result) == (len(ALL_MESHES) + 2 if which else len(MESHES) + 1)
    for mesh, run in result.items():
        # Rounding, amplified by 20 steps of Adam.
        np.testing.assert_allclose(run["terms"], one["terms"], rtol=1e-5, err_msg=mesh)
        np.testing.assert_allclose(run["norms"], one["norms"], rtol=1e-4, err_msg=mesh)
        # A twentieth of what twenty updates of about 1e-4 with random signs come to.
        assert run["weights_differ"] < 0.05 * 1e-4 * math.sqrt(20), mesh
        # Weights and both moments are sharded wherever the mesh has an axis for them, from the
        # first step to the last; so the step compiles once.
        sizes = ast.literal_eval(mesh.removesuffix(" sequence"))
        assert run["sharded"] == run["sharded_before"], mesh
        assert run["sharded"] % 3 == 0 and (run["sharded"] > 0) == (max(sizes[-2:]) > 1), mesh
        assert run["compiles"] == 1, mesh


def test_a_state_is_stored_by_the_names_of_its_arrays(model, tmp_path):
    trainer = Trainer(model, TINY, ON, SETTINGS, jnp.dtype("float32"))
    trainer.step(two_terms(4), 1e-3)
    stored = {name: np.array(x) for name, x in trainer.state_dict().items()}
    assert {"model/embed", "model/layers/q", "optimizer/0/mu/layers/q", "step"} <= stored.keys()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, trainer.state_dict(), {})
        _, restored, _ = checkpoints.restore_latest(trainer.abstract_state())
    trainer.step(two_terms(4, seed=1), 1e-3)
    trainer.load_state_dict(dict(reversed(restored.items())))
    for name, x in trainer.state_dict().items():
        np.testing.assert_array_equal(x, stored[name], err_msg=name)
