"""Memory and disk that a run needs, from the shapes of its model and its settings."""

import dataclasses
import math

import jax.numpy as jnp

from pmc_jax.config.train import TrainConfig
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.lora import adapters
from pmc_jax.models.parameters import parameters


@dataclasses.dataclass(frozen=True)
class TrainingBytes:
    """Bytes of the training state on all devices together.

    Attributes:
        trained: number of weights that are trained.
        weights: bytes of the weights, of frozen weights too.
        optimizer: bytes of the two moments.
        gradients: bytes of the gradients.
    """

    trained: int
    weights: int
    optimizer: int
    gradients: int

    @staticmethod
    def of(config: DecoderConfig, settings: TrainConfig, dtype: jnp.dtype) -> "TrainingBytes":
        """Computes the bytes of training with some settings.

        Args:
            dtype: dtype of activations and products.
        """
        all_weights = sum(math.prod(p.shape) for p in parameters(config).values())
        trained = all_weights
        if settings.lora.rank:
            trained = sum(math.prod(p.shape) for p in adapters(config, settings.lora).values())
        frozen = all_weights if settings.lora.rank else 0
        return TrainingBytes(
            trained,
            weights=4 * trained + dtype.itemsize * frozen,
            optimizer=(4 + jnp.dtype(settings.adamw.moment_dtype).itemsize) * trained,
            gradients=dtype.itemsize * trained,
        )

    @property
    def checkpoint(self) -> int:
        """Bytes of one checkpoint, which holds the trained weights and the moments."""
        return 4 * self.trained + self.optimizer
