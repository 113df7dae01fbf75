"""Defines the trainer, which holds the training state and takes gradient steps."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.config.train import TrainConfig
from pmc_jax.distributed.mesh import Layout
from pmc_jax.models.attention import check_kernel
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.lora import attach, init_adapters, merge
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.losses import Objective
from pmc_jax.training.step import TrainState, init_state, train_step
from pmc_jax.training.step_config import StepConfig


class Trainer:
    """Weights and optimizer state of a model in training. Every gradient step replaces both.

    Args:
        model: weights before training, which are copied unless `donate` is True.
        config: configuration of the decoder.
        layout: mesh and sharding rules for training.
        settings: settings with the optimizer, remat and adapters.
        dtype: dtype of activations and products.
        donate: whether the trainer may reuse the buffers of `model`. If so, the caller must not use
            the model again.
        seed: seed for new adapters.
        objective: settings of the loss, as in `StepConfig`. If the loss needs a reference model,
            `model` is the reference model.

    Raises:
        UserError: the kernel `settings.attention` does not support these devices or this model.
    """

    def __init__(
        self,
        model: Decoder,
        config: DecoderConfig,
        layout: Layout,
        settings: TrainConfig,
        dtype: jnp.dtype,
        *,
        donate: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ):
        check_kernel(settings.attention, config, dtype, layout.platform)
        self._base = self._reference = None
        self.lora = settings.lora if settings.lora.rank else None
        if self.lora is not None:
            # The base is frozen and read in the compute dtype, so it needs no float32 copy.
            self._base = jax.tree.map(lambda x: x.astype(dtype), model)
            model, donate = init_adapters(config, self.lora, jax.random.key(seed), layout), True
        if objective is not None and objective.needs_reference:
            # With adapters, the frozen base is the model before unlearning.
            self._reference = self._base
            if self._base is None:
                self._reference = jax.tree.map(lambda x: jnp.array(x, dtype, copy=True), model)
        self._static = StepConfig.of(settings, config, layout, dtype, objective)
        # Master weights are always float32.
        master = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=not donate), model)
        self.state: TrainState = init_state(master, static=self._static)
        self.tokens = 0

    @property
    def model(self) -> Decoder:
        """Current weights, with the adapters attached if adapters are trained."""
        if self._base is None:
            return self.state.model
        return attach(self._base, self.state.model, self.lora)

    @property
    def adapters(self) -> Decoder | None:
        """Current adapters, or None if all weights are trained."""
        return None if self._base is None else self.state.model

    def step(self, batch: TrainBatch, rate: float) -> dict[str, Any]:
        """Takes one gradient step on a host batch with a learning rate (see `learning_rate`).

        Returns:
            A dictionary with these entries.

                terms: mean cross-entropy of each loss term before the step, as a list of floats. If
                    the loss reads hidden states, these are mean squared distances.
                gradient_norm: L2 norm of the gradient before clipping.
                applied: whether the state has changed. The state does not change if a term or the
                    norm is not finite.
        """
        self.tokens += int((batch.segments > 0).sum())
        self.state, metrics = train_step(*self._arguments(batch, rate), static=self._static)
        return {
            "terms": np.asarray(metrics["terms"]).tolist(),
            "gradient_norm": float(metrics["gradient_norm"]),
            "applied": bool(metrics["applied"]),
        }

    def lower(self, batch: TrainBatch) -> jax.stages.Lowered:
        """Lowers the program of a step for the shapes of a batch, and does not run it."""
        return train_step.lower(*self._arguments(batch, 0.0), static=self._static)

    def _arguments(self, batch: TrainBatch, rate: float) -> tuple[Any, ...]:
        placed = TrainBatch.put(batch, self._static.layout)
        return self.state, placed, np.float32(rate), self._base, self._reference

    def release(self) -> Decoder:
        """Returns the weights with merged adapters and deletes the optimizer state.

        The trainer must not take any further step.
        """
        self.state = self.state._replace(optimizer=None)
        if self._base is None:
            return self.state.model
        return merge(self.model, config=self._static.config, layout=self._static.layout)

    def state_dict(self) -> dict[str, jax.Array]:
        """Returns the arrays of the state, each under a path such as `model/layers/q` or `step`."""
        paths = jax.tree_util.tree_leaves_with_path(self.state)
        return {_name(path): leaf for path, leaf in paths}

    def abstract_state(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shape, dtype and sharding of each array in `state_dict()`."""
        return {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for name, x in self.state_dict().items()
        }

    def load_state_dict(self, state_dict: Mapping[str, jax.Array]) -> None:
        """Restores a state that `state_dict` returned.

        The names are not checked here, because `Checkpoints` has already compared them.
        """
        leaves = [state_dict[name] for name in self.state_dict()]
        self.state = jax.tree.unflatten(jax.tree.structure(self.state), leaves)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
