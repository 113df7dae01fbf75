"""Gradient steps one after the other: owns the training state, to a checkpoint and back."""

import dataclasses
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
from pmc_jax.training.step import TrainState, init_state, make_optimizer, train_step


def _optimizer_settings(settings: TrainConfig) -> TrainConfig:
    """Without what a subclass adds, such as the names of data: other names, the same program."""
    fields = dataclasses.fields(TrainConfig)
    return TrainConfig(**{field.name: getattr(settings, field.name) for field in fields})


class Trainer:
    """The training state and the jitted step that replaces it.

    Args:
        model: weights to start from; copied unless `donate`.
        config: of the decoder.
        layout: mesh and training table.
        settings: optimizer, remat, and whether adapters are trained instead of all weights.
        total_steps: gradient steps of the whole run, for the learning-rate decay.
        dtype: of activations and products.
        donate: the buffers of `model` may be taken over; the caller must not use it again.
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
        self._layout, self._base, self._reference = layout, None, None
        if objective is not None and objective.method.needs_reference:
            self._reference = jax.tree.map(lambda x: jnp.array(x, dtype, copy=True), model)
        self.lora = settings.lora if settings.lora.rank else None
        if self.lora is not None:
            # Frozen, and read in the dtype of the products: no master copy of it is needed.
            self._base = jax.tree.map(lambda x: x.astype(dtype), model)
            model, donate = init_adapters(config, self.lora, jax.random.key(seed), layout), True
        self._static = dict(
            optimizer=make_optimizer(_optimizer_settings(settings), total_steps),
            config=config,
            layout=layout,
            dtype=dtype,
            remat=settings.remat,
            kernel=settings.attention,
            lora=self.lora,
            objective=objective,
        )
        self.state: TrainState = init_state(
            # float32 master weights, whatever the model was read as.
            jax.tree.map(lambda x: jnp.array(x, jnp.float32, copy=not donate), model),
            optimizer=self._static["optimizer"],
            config=config,
            layout=layout,
            lora=self.lora,
        )
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
            `terms`: list of the loss terms in nats a token, before the step; `gradient_norm`;
            `applied`: False where one of them was not finite, and nothing was changed.
        """
        self.tokens += int((batch.segments > 0).sum())
        placed = TrainBatch.put(batch, self._layout)
        self.state, metrics = train_step(
            self.state, placed, self._base, self._reference, **self._static
        )
        return {
            "terms": np.asarray(metrics["terms"]).tolist(),
            "gradient_norm": float(metrics["gradient_norm"]),
            "applied": bool(metrics["applied"]),
        }

    def lower(self, batch: TrainBatch) -> jax.stages.Lowered:
        """The program of a step on a batch of this shape, which is not run."""
        placed = TrainBatch.put(batch, self._layout)
        return train_step.lower(self.state, placed, self._base, self._reference, **self._static)

    def release(self) -> Decoder:
        """The weights, adapters merged; the optimizer state is dropped, no step may follow."""
        self.state = self.state._replace(optimizer=None)
        if self._base is None:
            return self.state.model
        return merge(self.model, config=self._static["config"], layout=self._layout)

    def saved(self) -> dict[str, jax.Array]:
        """The state as a flat dict of arrays."""
        return {f"{i:04}": leaf for i, leaf in enumerate(jax.tree.leaves(self.state))}

    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of `saved()`."""
        return {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
            for name, x in self.saved().items()
        }

    def restore(self, saved: dict[str, jax.Array]) -> None:
        """Goes on from what `saved` returned."""
        leaves = [saved[name] for name in sorted(saved)]
        self.state = jax.tree.unflatten(jax.tree.structure(self.state), leaves)
