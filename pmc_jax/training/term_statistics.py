"""Computes the `Term`s for the losses that are not a weighted sum of cross-entropies.

Axis letters: R packed rows, S tokens, A answer positions per row, T terms, U terms whose loss reads
single sequences, B sequences of a term in a micro-batch, D hidden size, V vocabulary size.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from pmc_jax.models.decoder import Decoder, hidden_states, logits
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.chunks import map_positions
from pmc_jax.training.cross_entropy import token_cross_entropy
from pmc_jax.training.losses import Term
from pmc_jax.training.step_config import StepConfig

# Number of positions per row whose logits are in memory at a time.
_POSITIONS_A_CHUNK = 16


def objective_loss(
    model: Decoder,
    reference: Decoder | None,
    batch: TrainBatch,
    static: StepConfig,
    micro_batches: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """Computes the contribution of one micro-batch to the loss and to the terms of a step.

    Args:
        model: the model with the trained weights.
        reference: the model before unlearning, or None if the method does not need it.
        batch: the micro-batch, whose arrays have no axis M.
        static: static configuration of the step.
        micro_batches: number of micro-batches M in the step.

    Returns:
        The loss f32[], and the mean cross-entropy of each term, f32[T]. If the loss reads hidden
        states, the mean squared distances replace the cross-entropies.
    """
    method = static.objective.method
    # Weights sum to 1 over the step, and losses are linear in the means. The loss of the step is
    # therefore the mean over M micro-batches, each with M times its weights.
    weights = batch.loss_weights * micro_batches
    if method.needs == "hidden":
        terms = _steered(model, reference, batch, weights, static)
        means = jnp.stack([terms["forget"].steered, terms["retain"].moved])
    else:
        terms = _scored(model, reference, batch, weights, static)
        means = jnp.stack([terms[name].mean for name in method.terms])
    loss = method.loss(terms, static.objective)
    return loss / micro_batches, jax.lax.stop_gradient(means) / micro_batches


def _scored(model, reference, batch, weights, static: StepConfig) -> dict[str, Term]:
    config, layout, objective = static.config, static.layout, static.objective
    hidden = answer_states(model, batch, static)
    if objective.reads_distributions:
        shown = jax.lax.stop_gradient(answer_states(reference, batch, static))
        soft = _soft_cross_entropy(model, hidden, reference, shown, batch.targets, static)
        each, crossed, entropy, adjusted = soft
    else:
        head = model.output_embedding, model.get("head_bias")
        each = token_cross_entropy(hidden, *head, batch.targets, layout, config.logit_softcap)
    means = jnp.einsum("tra,ra->t", weights, each)
    names = objective.method.terms
    terms = {name: Term(mean=means[t]) for t, name in enumerate(names)}
    if objective.method.needs == "rows":
        shape = batch.reference.shape

        def by_row(x):
            # This sum maps [R,A] to [U B]. The last segment holds all other tokens and is dropped.
            index = batch.sequence_index.reshape(-1)
            return jax.ops.segment_sum(x.reshape(-1), index, math.prod(shape) + 1)[:-1]

        sums, lengths = (by_row(x).reshape(shape) for x in (each, jnp.ones_like(each)))
        for t, name in enumerate(names[: shape[0]]):
            terms[name] = Term(terms[name].mean, sums[t], lengths[t], batch.reference[t])
    if objective.reads_distributions:
        for t, name in enumerate(names):
            divergence = jnp.sum(weights[t] * (crossed - entropy))
            to_adjusted = jnp.sum(weights[t] * adjusted)
            terms[name] = dataclasses.replace(
                terms[name], divergence=divergence, adjusted=to_adjusted
            )
    return terms


def answer_states(
    model: Decoder,
    batch: TrainBatch,
    static: StepConfig,
    *,
    answer_positions: jax.Array | None = None,
    layers: int | None = None,
) -> jax.Array:
    """Computes the hidden states at the answer positions, [R,A,D].

    Args:
        model: the model to run.
        batch: the micro-batch, whose arrays have no axis M.
        static: static configuration of the step.
        answer_positions: indices of tokens in the rows, i32[R,A]. None selects the
            `answer_positions` of the batch.
        layers: number of layers to run, without the last norm. None runs all layers and the norm.
    """
    hidden = hidden_states(
        model,
        static.config,
        static.layout,
        batch.tokens,
        batch.positions,
        batch.segments,
        prefix=batch.prefix if batch.prefix.size else None,
        dtype=static.dtype,
        remat=static.remat,
        kernel=static.kernel,
        layers=layers,
    )
    index = batch.answer_positions if answer_positions is None else answer_positions
    return jnp.take_along_axis(hidden, index[..., None], axis=1)


def _soft_cross_entropy(model, hidden, reference, shown, targets, static: StepConfig):
    """Computes cross-entropies between complete next-token distributions, f32[R,A] each.

    Only the logits of a few positions are in memory at a time. The backward pass computes them
    again.

    Args:
        model: the model in training.
        hidden: hidden states of `model`, [R,A,D]. The result is differentiable in them.
        reference: the model before unlearning.
        shown: hidden states of `reference`, [R,A,D].
        targets: the answer tokens, i32[R,A].

    Returns:
        The cross-entropy of the targets, the cross-entropy -sum q log p, the entropy
        -sum q log q, and the cross-entropy -sum s log p. Here, p and q are the distributions of the
        model and of the reference, z_ref are the logits of the reference, and
        s = softmax(z_ref - beta onehot(target)).
    """
    config, layout = static.config, static.layout

    @jax.checkpoint
    def chunk(hidden, shown, targets):
        log_p = jax.nn.log_softmax(logits(model, config, hidden, layout))
        scores = jax.lax.stop_gradient(logits(reference, config, shown, layout))
        log_q = jax.nn.log_softmax(scores)
        # A gather would move logits that are sharded by vocabulary, so a comparison is used.
        is_target = targets[..., None] == jnp.arange(scores.shape[-1])
        lowered = jax.nn.softmax(scores - static.objective.beta * is_target)
        q = jnp.exp(log_q)
        products = (is_target * log_p, q * log_p, q * log_q, lowered * log_p)
        return tuple(-jnp.sum(x, -1) for x in products)

    return map_positions(chunk, _POSITIONS_A_CHUNK, hidden, shown, targets)


def _steered(model, reference, batch, weights, static: StepConfig) -> dict[str, Term]:
    """Computes the two squared distances of RMU at the answer tokens, see `losses.rmu`.

    Only the layers up to `objective.layer` run.
    """
    objective = static.objective
    options = dict(answer_positions=batch.answer_positions + 1, layers=objective.layer)
    hidden = answer_states(model, batch, static, **options).astype(jnp.float32)
    before = answer_states(reference, batch, static, **options).astype(jnp.float32)
    u = jax.random.uniform(jax.random.key(objective.seed), (hidden.shape[-1],))
    vector = objective.steering * u / jnp.linalg.norm(u)

    def mean(share, target):
        return jnp.sum(share * jnp.mean((hidden - jax.lax.stop_gradient(target)) ** 2, -1))

    forget, retain = weights
    return {
        "forget": Term(steered=mean(forget, vector)),
        "retain": Term(moved=mean(retain, before)),
    }
