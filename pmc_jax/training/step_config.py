"""Defines the static configuration of a compiled training step, and builds its optimizer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from pmc_jax.config.train import AdamWConfig, LoRAConfig, TrainConfig
from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.training.losses import Objective


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Configuration of a training step, which is a static argument of the jitted step.

    JAX compiles one program for each configuration and batch shape.

    Attributes:
        optimizer: optimizer from `make_optimizer`, which returns the same object for the same
            settings.
        config: configuration of the decoder.
        layout: mesh and sharding rules for training.
        dtype: dtype of activations and products.
        remat: rule for the activations that the backward pass recomputes, as in `TrainConfig`.
        kernel: attention kernel, "xla" or "cudnn".
        lora: settings of the adapters in the state, or None if all weights are trained.
        objective: settings of a loss that is not a weighted sum of cross-entropies. None means that
            the loss is the sum of the terms times `TrainBatch.coefficients`.
    """

    optimizer: optax.GradientTransformation
    config: DecoderConfig
    layout: Layout
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "xla"
    lora: LoRAConfig | None = None
    objective: Objective | None = None

    @staticmethod
    def of(
        settings: TrainConfig,
        config: DecoderConfig,
        layout: Layout,
        dtype: jnp.dtype,
        objective: Objective | None = None,
    ) -> "StepConfig":
        """Builds the configuration from the settings of a run.

        The learning rate, its schedule and the number of steps are no part of it, so that runs
        which differ only in these share a program.
        """
        optimizer = make_optimizer(settings.adamw, settings.max_grad_norm)
        lora, kernel = settings.lora if settings.lora.rank else None, settings.attention
        return StepConfig(optimizer, config, layout, dtype, settings.remat, kernel, lora, objective)


@functools.lru_cache
def make_optimizer(
    settings: AdamWConfig, max_grad_norm: float | None = None
) -> optax.GradientTransformation:
    """Builds AdamW with a learning rate of 1. The step multiplies the updates by its rate."""
    adamw = optax.adamw(
        1.0,
        b1=settings.beta1,
        b2=settings.beta2,
        eps=settings.epsilon,
        mu_dtype=jnp.dtype(settings.moment_dtype),
        weight_decay=settings.weight_decay,
        mask=_matrices if settings.decay_on == "matrices" else None,
    )
    if max_grad_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), adamw)


def learning_rate(settings: TrainConfig, total_steps: int, step: int) -> float:
    """Returns the learning rate of a step, counted from 0, in a run of `total_steps` steps.

    The rate rises linearly from 0 during warm-up. Then it decays linearly to 0, as in the schedule
    of transformers, or stays constant.
    """
    warmup, peak = settings.warmup_steps, settings.learning_rate
    if step < warmup:
        return peak * step / warmup
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return peak * (1.0 - done) if settings.decay == "linear" else peak


def _matrices(model: Decoder) -> Decoder:
    """Returns a mask that is True for each parameter except biases and norm weights."""

    def is_matrix(path, _) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        return not name.endswith(("norm", "bias"))

    return jax.tree_util.tree_map_with_path(is_matrix, model)
