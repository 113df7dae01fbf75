"""The input of a training step: the host packs it (`packing`), the device trains on it.

Axis letters: M micro-batches, R rows, S tokens, A answer positions per row, T terms of the loss, U
terms whose loss reads single sequences, B sequences of a term in a micro-batch, P prefix.
"""

from typing import NamedTuple

import jax

from pmc_jax.distributed.mesh import Layout


class TrainBatch(NamedTuple):
    """Packed rows of one gradient step.

    Attributes:
        tokens, positions, segments: i32[M,R,S], see `decoder.hidden_states`.
        answer_positions: i32[M,R,A], index in the row of the token before each answer token.
        targets: i32[M,R,A], the answer tokens, end token included.
        loss_weights: f32[T,M,R,A], weight of each answer token in the mean of its term. The weights
            of a term sum to 1, or to less where a micro-batch has no tokens of it.
        coefficients: f32[T], factor of each term in the loss.
        prefix: i32[P], tokens that all sequences of the run start with.
        sequence_index: i32[M,R,A], the sequence that each answer token belongs to: t B + its number
            for the first U terms, U B elsewhere; None where the loss reads no single sequences.
        reference: f32[M,U,B], cross-entropy of each of these sequences under the model before
            unlearning, 0 where no loss reads it; None where `sequence_index` is None.
    """

    tokens: jax.Array
    positions: jax.Array
    segments: jax.Array
    answer_positions: jax.Array
    targets: jax.Array
    loss_weights: jax.Array
    coefficients: jax.Array
    prefix: jax.Array
    sequence_index: jax.Array | None = None
    reference: jax.Array | None = None

    @staticmethod
    def put(batch: "TrainBatch", layout: Layout) -> "TrainBatch":
        """Puts host arrays on the devices as global arrays, rows sharded over the data axes."""
        axes = {
            "loss_weights": (None, None, "rows", None),
            "coefficients": (None,),
            "prefix": (None,),
            "reference": (None, None, None),
        }
        placed = {
            name: None if x is None else layout.put(x, *axes.get(name, (None, "rows", None)))
            for name, x in batch._asdict().items()
        }
        return TrainBatch(**placed)
