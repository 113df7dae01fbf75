"""Measures the loss on a fixed sample of retain rows, which shows when the model has recovered."""

from collections.abc import Sequence

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.likelihood import token_scores
from pmc_jax.training.order import Stream, stream_rng

_ROWS = 64


class RetainLoss:
    """Retain loss before unlearning, with which the retain loss of later weights is compared.

    Args:
        generator: the model before unlearning.
        sequences: sequences of all retain rows, of which at most `_ROWS` are used.
        seed: seed for the choice of these rows.
    """

    def __init__(self, generator: TextGenerator, sequences: Sequence[TokenSequence], seed: int):
        count = min(_ROWS, len(sequences))
        rows = stream_rng(seed, Stream.RETAIN_LOSS).permutation(len(sequences))[:count]
        self._generator, self._sequences = generator, [sequences[i] for i in rows]
        self.before = self.loss(generator.lm.model)

    def loss(self, model: Decoder) -> float:
        """Computes the mean cross-entropy of the answer tokens under a model."""
        lm, dtype = self._generator.lm, self._generator.dtype
        scores = token_scores(model, lm.config, lm.layout, self._sequences, dtype=dtype)
        return -float(np.concatenate([one.logp for one in scores]).mean(dtype=np.float64))

    def has_recovered(self, model: Decoder, margin: float) -> bool:
        """Returns whether the loss is at most `margin` above the loss before unlearning."""
        return self.loss(model) <= self.before + margin
