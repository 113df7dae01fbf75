"""Defines the training step, a pure jitted function that donates its input state.

Axis letters: M micro-batches, R rows, S tokens, A answer positions per row, T terms of the loss, P
prefix tokens.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import adapters, attach
from pmc_jax.models.parameters import parameters
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.cross_entropy import cross_entropy
from pmc_jax.training.step_config import StepConfig
from pmc_jax.training.term_statistics import answer_states, objective_loss


class TrainState(NamedTuple):
    """Weights and optimizer state. Every step returns a new state.

    Attributes:
        model: float32 master weights of the complete model or only of the adapters.
        optimizer: state of the optax optimizer, which is sharded like the weights.
        step: number of steps that changed the state, i32[].
    """

    model: Decoder
    optimizer: optax.OptState
    step: jax.Array


@functools.partial(jax.jit, static_argnames=("static",), donate_argnames=("model",))
def init_state(model: Decoder, *, static: StepConfig) -> TrainState:
    """Returns the state before the first step. The buffers of `model` are donated."""
    return _pin(TrainState(model, static.optimizer.init(model), jnp.int32(0)), static)


def _pin(state: TrainState, static: StepConfig) -> TrainState:
    """Constrains the weights and moments of a state to the shardings of the layout.

    Without the constraint, the compiler would replicate a new state. The second step would then get
    other shardings and compile again.
    """
    return _by_table(state, static, lambda x, axes: static.layout.constrain(x, *axes))


def _by_table(
    state: TrainState,
    static: StepConfig,
    each: Callable[[jax.Array, Sequence[str | None]], jax.Array],
) -> TrainState:
    """Applies a function to each array of a state, together with the logical axes of the array."""
    table = parameters(static.config)
    if static.lora is not None:
        table |= adapters(static.config, static.lora)

    def mapped(x):
        if not isinstance(x, Decoder):
            return each(x, [None] * x.ndim)
        return Decoder({name: each(a, table[name].axes) for name, a in x.arrays().items()})

    return jax.tree.map(mapped, state, is_leaf=lambda x: isinstance(x, Decoder))


def abstract_state(model: Decoder, *, static: StepConfig) -> TrainState:
    """Returns the shapes and shardings of the state that `init_state` returns for a model."""
    state = jax.eval_shape(functools.partial(init_state, static=static), model)

    def placed(x, axes):
        sharding = static.layout.sharding(axes, x.shape)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return _by_table(state, static, placed)


def batch_loss(
    model: Decoder,
    batch: TrainBatch,
    reference: Decoder | None = None,
    *,
    static: StepConfig,
    micro_batches: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """Computes the contribution of one micro-batch to the loss of a step.

    Args:
        model: the model with the trained weights.
        batch: the micro-batch, whose arrays have no axis M.
        reference: the model before unlearning, if the objective needs it.
        static: static configuration of the step.
        micro_batches: number of micro-batches M in the step.

    Returns:
        The loss f32[], and the mean cross-entropy of each term, f32[T], or its squared distance for
        RMU. The sums of these values over the micro-batches are the values of the step.
    """
    if static.objective is not None:
        return objective_loss(model, reference, batch, static, micro_batches)
    loss, each = cross_entropy(
        answer_states(model, batch, static),
        model.output_embedding,
        model.get("head_bias"),
        batch.targets,
        jnp.einsum("t,tra->ra", batch.coefficients, batch.loss_weights),
        static.layout,
        static.config.logit_softcap,
    )
    return loss, jnp.einsum("tra,ra->t", batch.loss_weights, jax.lax.stop_gradient(each))


@functools.partial(jax.jit, static_argnames=("static",), donate_argnames=("state",))
def train_step(
    state: TrainState,
    batch: TrainBatch,
    rate: jax.typing.ArrayLike,
    base: Decoder | None = None,
    reference: Decoder | None = None,
    *,
    static: StepConfig,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one gradient step over M micro-batches.

    The state does not change if the loss or the gradient is not finite.

    Args:
        state: the state before the step, whose buffers are donated.
        batch: the packed rows of the step.
        rate: the learning rate of the step, f32[].
        base: the frozen weights under the adapters in `state`, or None if all weights are trained.
        reference: the model before unlearning, if the objective needs it.
        static: static configuration of the step.

    Returns:
        The new state, and a dictionary with these metrics.

            terms: sums of the values of the terms from `batch_loss`, before the step, f32[T].
            gradient_norm: L2 norm of the gradient before clipping, f32[].
            applied: whether the state has changed, bool[].
    """

    micro_batches = batch.tokens.shape[0]

    def loss(trained: Decoder, batch: TrainBatch):
        model = trained if base is None else attach(base, trained, static.lora)
        return batch_loss(model, batch, reference, static=static, micro_batches=micro_batches)

    gradient = jax.value_and_grad(loss, has_aux=True)
    shared = {"coefficients": batch.coefficients, "prefix": batch.prefix}
    micro = {k: v for k, v in batch._asdict().items() if k not in shared}
    micro["loss_weights"] = jnp.moveaxis(micro["loss_weights"], 1, 0)
    if micro_batches == 1:
        single = jax.tree.map(lambda x: x[0], micro)
        (_, terms), grads = gradient(state.model, TrainBatch(**single, **shared))
    else:

        def add(total, part):
            (_, terms), grads = gradient(state.model, TrainBatch(**part, **shared))
            # The barrier keeps the reductions in the loop, because the TPU compiler fails if it
            # moves them out.
            part = jax.lax.optimization_barrier((terms, grads))
            return jax.tree.map(jnp.add, total, part), None

        zero = (jnp.zeros_like(batch.coefficients), jax.tree.map(jnp.zeros_like, state.model))
        (terms, grads), _ = jax.lax.scan(add, zero, micro)
    updates, optimizer_state = static.optimizer.update(grads, state.optimizer, state.model)
    model = jax.tree.map(lambda weight, update: weight + rate * update, state.model, updates)
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(norm) & jnp.all(jnp.isfinite(terms))
    new = TrainState(model, optimizer_state, state.step + 1)
    new = jax.tree.map(lambda new, old: jnp.where(good, new, old), new, state)
    metrics = {"terms": terms, "gradient_norm": norm, "applied": good}
    return _pin(new, static), metrics
