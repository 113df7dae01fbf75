"""Defines `TrainBatch`, the input of a training step."""

from typing import NamedTuple

import jax

from pmc_jax.distributed.mesh import Layout


class TrainBatch(NamedTuple):
    """Packed rows of one gradient step.

    Axis letters: M micro-batches, R rows, S tokens per row, A answer tokens per row, T terms of the
    loss, P tokens of the prefix. The first U terms need a value per sequence, and each of them has
    at most B sequences.

    Attributes:
        tokens: token ids without the prefix, i32[M,R,S].
        positions: position of each token in its sequence, prefix included, i32[M,R,S].
        segments: number of each token's sequence in its row, from 1; 0 is padding, i32[M,R,S].
        answer_positions: index in the row of the token before each answer token, i32[M,R,A].
        targets: the answer tokens, which include the end token, i32[M,R,A].
        loss_weights: weight of each answer token in the mean of its term, f32[T,M,R,A]. The weights
            of a term sum to 1, or to 0 if all its sequences are left out. With
            `train.accumulation_mean=micro_batches`, they sum to less than 1 if a micro-batch has no
            tokens of the term.
        coefficients: factor of each term in the loss, f32[T].
        prefix: tokens with which all sequences of the run start, i32[P].
        sequence_index: index t B + b of the sequence that each answer token belongs to, i32[M,R,A],
            where t < U is the term and b is the sequence in this term. All other entries are U B.
            The attribute is None if the loss needs no value per sequence.
        reference: cross-entropy of each sequence under the model before unlearning, f32[M,U,B]. An
            entry is 0 if the loss does not use it. The attribute is None if `sequence_index` is
            None.
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
        """Puts a host batch on the devices as global arrays whose rows are sharded."""
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
