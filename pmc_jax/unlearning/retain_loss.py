"""The loss on a fixed sample of retain rows: whether it has recovered after the collapse."""

from collections.abc import Sequence

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.likelihood import token_scores
from pmc_jax.training.order import Stream, stream_rng

_ROWS = 64


class RetainLoss:
    """Compares later weights with those at the start.

    Args:
        generator: the model before unlearning.
        sequences: of all retain rows; `_ROWS` of them are looked at.
        seed: of which ones.
    """

    def __init__(self, generator: TextGenerator, sequences: Sequence[TokenSequence], seed: int):
        count = min(_ROWS, len(sequences))
        rows = stream_rng(seed, Stream.RETAIN_LOSS).permutation(len(sequences))[:count]
        self._generator, self._sequences = generator, [sequences[i] for i in rows]
        self.before = self.loss(generator.lm.model)

    def loss(self, model: Decoder) -> float:
        """Mean cross-entropy of the answer tokens."""
        lm, dtype = self._generator.lm, self._generator.dtype
        scores = token_scores(model, lm.config, lm.layout, self._sequences, dtype=dtype)
        return -float(np.concatenate([one.logp for one in scores]).mean(dtype=np.float64))

    def has_recovered(self, model: Decoder, margin: float) -> bool:
        """Whether the loss is at most `margin` above that at the start."""
        return self.loss(model) <= self.before + margin
