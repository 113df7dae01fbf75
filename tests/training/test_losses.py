"""Every loss against its formula in float64 on fixed logits, and through a model's packed rows
against the same model's logits, row by row.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_cases import TINY, packer, sequences, tiny_model, train_layout

from pmc_jax.config.method import ANSWER_FREE, FIXED_RETAIN_LOSS, METHOD_NAMES, TARGET_BASED
from pmc_jax.config.run import MethodConfig, TrainConfig
from pmc_jax.models.decoder import hidden_states, logits
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.losses import METHODS, Objective, Term, coefficients
from pmc_jax.training.step import batch_loss
from pmc_jax.training.step_config import StepConfig
from pmc_jax.training.trainer import Trainer

ON = train_layout()
STATIC = StepConfig(optax.identity(), TINY, ON, jnp.dtype("float32"))
ROWS = 4  # of each term
WITH_KL = tuple(f"{name} with kl" for name in ("pmc", "gradient_difference", "npo", "undial"))
CASES = (*METHODS, *WITH_KL)


def method_of(case: str) -> str:
    return case.removesuffix(" with kl")


def objective(case: str, **changed) -> Objective:
    """The settings of a case, which is a method or "METHOD with kl"."""
    name, _, retain_loss = case.partition(" with ")
    settings = MethodConfig(name=name, retain_loss=retain_loss or None)
    usual = Objective.of(settings, lambda_retain=1.5, layers=2, seed=3)
    return dataclasses.replace(usual, **changed)


@functools.cache
def models():
    """The model, and the one before unlearning."""
    model = tiny_model(ON)
    other = jax.tree.map(lambda x: x + 0.05 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), model)
    return model, other


@functools.cache
def terms_of(name: str):
    terms = METHODS[method_of(name)].terms
    rows = sequences(ROWS * len(terms), seed=7)
    return {t: rows[i * ROWS : (i + 1) * ROWS] for i, t in enumerate(terms)}


@jax.jit
def padded_logits(model, tokens):
    """[1,S] tokens of a row on its own; causal, so that padding behind changes nothing."""
    positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    hidden = hidden_states(model, TINY, ON, tokens, positions, jnp.ones_like(tokens))
    return logits(model, TINY, hidden, ON)[0]


@functools.cache
def loss_of(name: str, o: Objective, micro_batches: int = 1):
    """Jitted (model, batch, model before) -> loss and terms."""
    static = dataclasses.replace(STATIC, objective=None if o.is_linear else o)
    return jax.jit(functools.partial(batch_loss, static=static, micro_batches=micro_batches))


@functools.cache
def answer_logits(which: int, name: str, term: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n,V] logits of the answer tokens of one row on its own, and the tokens."""
    sequence = terms_of(name)[term][row]
    tokens = np.zeros((1, 16), np.int32)
    tokens[0, : len(sequence)] = sequence.tokens
    found = np.asarray(padded_logits(models()[which], tokens), np.float64)[: len(sequence)]
    return found[sequence.begin - 1 : -1], sequence.tokens[sequence.begin :]


def log_softmax(z: np.ndarray) -> np.ndarray:
    peak = z.max(-1, keepdims=True)
    return z - peak - np.log(np.exp(z - peak).sum(-1, keepdims=True))


def expected_terms(name: str, beta: float, every) -> dict[str, Term]:
    """What each loss is a function of, from single rows, in float64."""
    found = {}
    for term in METHODS[method_of(name)].terms:
        sums, lengths, reference, divergence, adjusted = [], [], [], 0.0, 0.0
        for row in range(ROWS):
            (z, tokens), (before, _) = (every(which, name, term, row) for which in (0, 1))
            at = np.arange(len(tokens))
            log_p, log_q = log_softmax(z), log_softmax(before)
            lowered = before.copy()
            lowered[at, tokens] -= beta
            sums.append(-log_p[at, tokens].sum())
            reference.append(-log_q[at, tokens].sum())
            lengths.append(len(tokens))
            divergence += (np.exp(log_q) * (log_q - log_p)).sum()
            adjusted += -(np.exp(log_softmax(lowered)) * log_p).sum()
        total = sum(lengths)
        found[term] = Term(
            mean=sum(sums) / total,
            sums=np.array(sums),
            lengths=np.array(lengths),
            reference=np.array(reference),
            divergence=divergence / total,
            adjusted=adjusted / total,
        )
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_formula(name: str, t: dict[str, Term], o: Objective) -> float:
    """The papers' formulas, written out."""
    lam, beta = o.lambda_retain, o.beta
    if "retain" in t:
        kept = t["retain"].divergence if name.endswith(" with kl") else t["retain"].mean
    name = method_of(name)

    def preferred(gain):
        return -2 / beta * np.mean(np.log(sigmoid(beta * gain)))

    if name == "simnpo":
        f, margin = t["forget"], (o.beta * o.margin if o.margin_inside else o.margin)
        inside = beta * f.sums / f.lengths - margin
        return lam * kept - 2 / beta * np.mean(np.log(sigmoid(inside)))
    if name == "npo":
        return lam * kept + preferred(t["forget"].sums - t["forget"].reference)
    if name == "dpo":
        gain = t["forget"].sums - t["forget"].reference
        return lam * kept + preferred(gain - t["refusal"].sums + t["refusal"].reference)
    return {
        "pmc": lambda: t["collapse"].mean + lam * kept,
        "pmc_alignment": lambda: t["collapse"].mean + lam * kept + o.alignment * t["refusal"].mean,
        "idk": lambda: t["refusal"].mean + lam * kept,
        "retain_only": lambda: t["retain"].mean,
        "gradient_ascent": lambda: -t["forget"].mean,
        "gradient_difference": lambda: lam * kept - t["forget"].mean,
        "undial": lambda: lam * kept + t["forget"].adjusted,
    }[name]()


def batch_of(name: str, o: Objective, micro_batches: int = 1, mean: str = "step") -> TrainBatch:
    terms = terms_of(name)
    rows = [s for group in terms.values() for s in group]
    reference = None
    if o.method.needs == "rows":
        tables = expected_terms(name, o.beta, answer_logits)
        reference = [tables[t].reference for t in terms if t != "retain"]
    return dataclasses.replace(packer(rows), accumulation_mean=mean).pack(
        list(terms.values()),
        coefficients(o),
        micro_batches=micro_batches,
        reference=reference,
    )


def single(batch: TrainBatch) -> TrainBatch:
    whole = dict(
        coefficients=batch.coefficients, prefix=batch.prefix, loss_weights=batch.loss_weights[:, 0]
    )
    others = {k: v[0] for k, v in batch._asdict().items() if k not in whole and v is not None}
    return TrainBatch(**whole, **others)


def test_all_methods_have_a_loss_and_a_name():
    assert tuple(METHODS) and set(METHODS) == set(METHOD_NAMES)
    for name, method in METHODS.items():
        assert method.loss.__name__ == name and method.loss.__doc__
        assert "retain" not in method.terms[:-1]
        assert method.reads_true_answers == (name in TARGET_BASED) != (name in ANSWER_FREE)


@pytest.mark.parametrize("name", [n for n in CASES if n != "rmu"])
def test_loss_is_the_formula_on_fixed_logits(name):
    rng = np.random.default_rng(5)
    fixed = {}

    def every(which, _, term, row):
        key = which, term, row
        if key not in fixed:
            n = 2 + row
            fixed[key] = 3 * rng.standard_normal((n, 11)), rng.integers(0, 11, n)
        return fixed[key][0], fixed[0, term, row][1] if (0, term, row) in fixed else fixed[key][1]

    changed = {"margin": 0.3} if name == "simnpo" else {}
    for inside in (False, True) if name == "simnpo" else (False,):
        o = objective(name, margin_inside=inside, **changed)
        terms = expected_terms(name, o.beta, every)
        # float32 of a few dozen numbers.
        assert float(o.method.loss(terms, o)) == pytest.approx(by_formula(name, terms, o), rel=2e-6)


def test_values_of_open_unlearning():
    """Its own code on the same logits, one unpadded row: tests/golden/losses.py."""
    golden = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")
    beta, delta = float(golden["beta"]), float(golden["delta"])

    def term(which: str, tokens: np.ndarray) -> Term:
        (z, before), at = golden[which].astype(np.float64)[:, :-1], np.arange(len(tokens))
        log_p, log_q = log_softmax(z), log_softmax(before)
        lowered = before.copy()
        lowered[at, tokens] -= beta
        return Term(
            mean=0.0,
            sums=-log_p[at, tokens].sum(keepdims=True),
            lengths=np.array([len(tokens)]),
            reference=-log_q[at, tokens].sum(keepdims=True),
            adjusted=-(np.exp(log_softmax(lowered)) * log_p).sum() / len(tokens),
        )

    terms = {"forget": term("logits", golden["tokens"]), "refusal": term("other", golden["others"])}
    terms["retain"] = Term(mean=0.0)
    for name in ("npo", "dpo", "simnpo", "undial"):
        o = objective(name, beta=beta, margin=delta, margin_inside=True)
        # Both sides in float32 at places.
        assert float(METHODS[name].loss(terms, o)) == pytest.approx(float(golden[name]), rel=1e-5)
    log_p, log_q = (log_softmax(z.astype(np.float64)) for z in golden["logits"])
    divergence = (np.exp(log_q) * (log_q - log_p)).sum(-1).mean()  # every position of the row
    assert divergence == pytest.approx(float(golden["kl"]), rel=1e-5)


@pytest.mark.parametrize("name", [n for n in CASES if n != "rmu"])
def test_packed_rows_give_the_loss_of_single_rows(name):
    o = objective(name, margin=0.2)
    model, before = models()
    loss, means = loss_of(name, o)(model, single(batch_of(name, o)), before)
    terms = expected_terms(name, o.beta, answer_logits)
    # float32 through two layers; sums of a row reach 50 nats.
    assert float(loss) == pytest.approx(by_formula(name, terms, o), rel=2e-5)
    np.testing.assert_allclose(means, [terms[t].mean for t in o.method.terms], rtol=1e-5)


@pytest.mark.parametrize("name", ["npo", "undial", "pmc with kl", "rmu"])
def test_gradient_is_that_of_finite_differences(name):
    o = objective(name, layer=1)
    model, before = models()
    batch = single(batch_of(name, o))

    @jax.jit
    def loss(step, direction):
        moved = jax.tree.map(lambda w, d: w + step * d, model, direction)
        static = dataclasses.replace(STATIC, objective=o)
        return batch_loss(moved, batch, before, static=static)[0]

    keys = jax.random.key(1)
    direction = jax.tree.map(lambda w: jax.random.normal(keys, w.shape) * 0.1, model)
    slope = jax.grad(loss)(0.0, direction)
    h = 1e-2
    numeric = (8 * (loss(h, direction) - loss(-h, direction)) - loss(2 * h, direction)
               + loss(-2 * h, direction)) / (12 * h)  # fmt: skip
    # Fourth order in h, float32 losses: a few in a thousand.
    assert float(slope) == pytest.approx(float(numeric), rel=1e-2) and abs(float(slope)) > 1e-2


def test_rmu_steers_one_layer_and_leaves_later_ones_alone():
    o = objective("rmu", layer=1, steering=3.0)
    model, before = models()
    batch = single(batch_of("rmu", o))
    static = dataclasses.replace(STATIC, objective=o)
    loss_and_terms = functools.partial(batch_loss, static=static)
    grad = jax.jit(jax.value_and_grad(loss_and_terms, has_aux=True))
    (loss, means), gradient = grad(model, batch, before)
    assert float(loss) == pytest.approx(float(means[0] + o.anchor * means[1]), rel=1e-6)
    for name, g in gradient.arrays().items():
        moved = np.abs(np.asarray(g)).max()
        if name.startswith("layers."):
            assert np.abs(np.asarray(g)[1:]).max() == 0
        if name in ("norm", "head"):
            assert moved == 0
    u = jax.random.uniform(jax.random.key(3), (TINY.hidden_size,))
    target = 3.0 * u / jnp.linalg.norm(u)
    distances = {}

    @jax.jit
    def first_layer(m, tokens):
        positions = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
        return hidden_states(m, TINY, ON, tokens, positions, jnp.ones_like(tokens), layers=1)[0]

    for term, rows in terms_of("rmu").items():
        total, count = 0.0, 0
        for s in rows:
            tokens = np.zeros((1, 16), np.int32)
            tokens[0, : len(s)] = s.tokens
            at = slice(s.begin, len(s))
            own, ref = (np.asarray(first_layer(m, tokens))[at] for m in (model, before))
            aim = np.asarray(target) if term == "forget" else ref
            total += float(np.sum(np.mean((own - aim) ** 2, -1)))
            count += len(s) - s.begin
        distances[term] = total / count
    np.testing.assert_allclose(means, list(distances.values()), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_mean_over_a_step_does_not_depend_on_micro_batches(name):
    o = objective(name)
    model, before = models()
    parts = losses_of_halves(name, o, "step")
    loss, terms = loss_of(name, o)(model, single(batch_of(name, o)), before)
    np.testing.assert_allclose(sum(part for part, _ in parts), loss, rtol=2e-5)
    np.testing.assert_allclose(sum(each for _, each in parts), terms, rtol=2e-5)


def losses_of_halves(name: str, o: Objective, mean: str) -> list:
    """Returns loss and terms of each of two micro-batches."""
    model, before = models()
    batch = batch_of(name, o, micro_batches=2, mean=mean)
    loss_weights = np.moveaxis(batch.loss_weights, 1, 0)
    losses = []
    for m in range(2):
        whole = ("loss_weights", "coefficients", "prefix")
        fields = batch._asdict().items()
        fields = {k: v[m] for k, v in fields if v is not None and k not in whole}
        part = TrainBatch(
            **fields,
            loss_weights=loss_weights[m],
            coefficients=batch.coefficients,
            prefix=batch.prefix,
        )
        losses.append(loss_of(name, o, 2)(model, part, before))
    return losses


@pytest.mark.parametrize("name", ["dpo", "npo with kl", "rmu"])
def test_the_mean_of_micro_batches(name):
    o = objective(name)
    model, before = models()
    losses = [loss for loss, _ in losses_of_halves(name, o, "micro_batches")]
    alone = []
    for m in range(2):
        half = slice(m * ROWS // 2, (m + 1) * ROWS // 2)
        terms = {t: rows[half] for t, rows in terms_of(name).items()}
        rows = [s for group in terms_of(name).values() for s in group]
        reference = None
        if o.method.needs == "rows":
            tables = expected_terms(name, o.beta, answer_logits)
            reference = [tables[t].reference[half] for t in terms if t != "retain"]
        one = packer(rows).pack(list(terms.values()), coefficients(o), reference=reference)
        loss, _ = loss_of(name, o)(model, single(one), before)
        alone.append(float(loss))
    np.testing.assert_allclose(losses, np.array(alone) / 2, rtol=1e-5)


def test_a_fixed_retain_loss_is_not_read():
    for name in FIXED_RETAIN_LOSS:
        assert objective(f"{name} with kl") == objective(name)
    assert not objective("rmu").is_linear and objective("retain_only with kl").is_linear


def test_kl_of_the_untouched_model_is_zero():
    o = objective("pmc with kl")
    model, _ = models()
    loss, means = loss_of("pmc with kl", o)(model, single(batch_of("pmc with kl", o)), model)
    # The divergence is the difference of two sums of about 5 nats in float32.
    assert float(loss) == pytest.approx(float(means[0]), abs=1e-5)


def test_coefficients_of_linear_losses():
    assert coefficients(objective("pmc")) == (1.0, 1.5)
    assert coefficients(objective("pmc_alignment")) == (1.0, 0.5, 1.5)
    assert coefficients(objective("idk")) == (1.0, 1.5)
    assert coefficients(objective("retain_only")) == (1.0,)
    assert coefficients(objective("gradient_ascent")) == (-1.0,)
    assert coefficients(objective("gradient_difference")) == (-1.0, 1.5)


@pytest.mark.parametrize("name", ["pmc_alignment", "gradient_ascent", "npo", "undial", "rmu"])
def test_steps_lower_the_loss(name):
    o = objective(name, steering=1.0)
    trainer = Trainer(
        models()[0], TINY, ON,
        TrainConfig(adamw={"weight_decay": 0.0}),
        jnp.dtype("float32"), objective=None if o.is_linear else o,
    )  # fmt: skip
    batch = batch_of(name, o)
    losses = []
    for _ in range(4):
        state = trainer.model
        value, _ = loss_of(name, o)(state, single(batch), models()[0])
        losses.append(float(value))
        assert trainer.step(batch, 3e-4)["applied"]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
