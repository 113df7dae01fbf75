"""Gradient steps one after the other: owns the training state, to a checkpoint and back."""

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
    """The training state and the jitted step that replaces it.

    Args:
        model: weights to start from; copied unless `donate`.
        config: of the decoder.
        layout: mesh and training table.
        settings: optimizer, remat, and whether adapters are trained instead of all weights.
        total_steps: gradient steps of the whole run, for the learning-rate decay.
        dtype: of activations and products.
        donate: the trainer may reuse the buffers of `model`; the caller must not use it again.
        seed: of new adapters.
        objective: see `train_step`; where it needs the model before unlearning, that is `model`.

    Raises:
        UserError: `settings.attention` cannot run here.
    """

    def __init__(
        self,
        model: Decoder,
        config: DecoderConfig,
        layout: Layout,
        settings: TrainConfig,
        total_steps: int,
        dtype: jnp.dtype,
        *,
        donate: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ):
        check_kernel(settings.attention, config, dtype, layout.platform)
        self._base = self._reference = None
        if objective is not None and objective.method.needs_reference:
            self._reference = jax.tree.map(lambda x: jnp.array(x, dtype, copy=True), model)
        self.lora = settings.lora if settings.lora.rank else None
        if self.lora is not None:
            # Frozen, and read in the dtype of the products: no master copy of it is needed.
            self._base = jax.tree.map(lambda x: x.astype(dtype), model)
            model, donate = init_adapters(config, self.lora, jax.random.key(seed), layout), True
        self._static = StepConfig.of(settings, total_steps, config, layout, dtype, objective)
        # float32 master weights, whatever the model was read as.
        master = jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=not donate), model)
        self.state: TrainState = init_state(master, static=self._static)
        self.tokens = 0

    @property
    def model(self) -> Decoder:
        """The weights as they are now, with adapters where these are trained."""
        if self._base is None:
            return self.state.model
        return attach(self._base, self.state.model, self.lora)

    @property
    def adapters(self) -> Decoder | None:
        """The adapters alone, where these are trained."""
        return None if self._base is None else self.state.model

    def step(self, batch: TrainBatch) -> dict[str, Any]:
        """One gradient step on a host batch.

        Returns:
            `terms`: list of the loss terms per token, before the step; `gradient_norm`;
            `applied`: False where one of them was not finite, and nothing was changed.
        """
        self.tokens += int((batch.segments > 0).sum())
        self.state, metrics = train_step(*self._arguments(batch), static=self._static)
        return {
            "terms": np.asarray(metrics["terms"]).tolist(),
            "gradient_norm": float(metrics["gradient_norm"]),
            "applied": bool(metrics["applied"]),
        }

    def lower(self, batch: TrainBatch) -> jax.stages.Lowered:
        """The program of a step on a batch of this shape, which is not run."""
        return train_step.lower(*self._arguments(batch), static=self._static)

    def _arguments(self, batch: TrainBatch) -> tuple[Any, ...]:
        placed = TrainBatch.put(batch, self._static.layout)
        return self.state, placed, self._base, self._reference

    def release(self) -> Decoder:
        """The weights, adapters merged; the optimizer state is dropped, no step may follow."""
        self.state = self.state._replace(optimizer=None)
        if self._base is None:
            return self.state.model
        return merge(self.model, config=self._static.config, layout=self._static.layout)

    def state_dict(self) -> dict[str, jax.Array]:
        """The arrays of the state by their paths in it, such as `model/layers/q` and `step`."""
        paths = jax.tree_util.tree_leaves_with_path(self.state)
        return {_name(path): leaf for path, leaf in paths}

    def abstract_state(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of `state_dict()`."""
        return {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for name, x in self.state_dict().items()
        }

    def load_state_dict(self, state_dict: Mapping[str, jax.Array]) -> None:
        """Resumes from what `state_dict` returned; `Checkpoints` has compared the names."""
        leaves = [state_dict[name] for name in self.state_dict()]
        self.state = jax.tree.unflatten(jax.tree.structure(self.state), leaves)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
