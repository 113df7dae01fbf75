"""Packs several sequences into each row and separates them by segment ids."""

import dataclasses
import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.distributed.mesh import round_up
from pmc_jax.training.batch import TrainBatch

_ROW_MULTIPLE = 32
_SEQUENCES_A_ROW = 4


class PackedRows:
    """Rows of packed sequences as host arrays, which `add` fills.

    Args:
        rows: number of rows R.
        size: number of tokens S per row.
        slots: maximum number A of answer tokens per row.
        prefix_length: number of leading tokens that are left out of every sequence.

    Attributes:
        tokens: token ids without the prefix, i32[R,S].
        positions: position of each token in its sequence, prefix included, i32[R,S].
        segments: number of each token's sequence in its row, from 1; 0 is padding, i32[R,S].
        answer_positions: index in the row of the token before each answer token, i32[R,A].
        targets: the answer tokens, i32[R,A].
    """

    def __init__(self, rows: int, size: int, slots: int, prefix_length: int):
        self.tokens, self.positions, self.segments = np.zeros((3, rows, size), np.int32)
        self.answer_positions, self.targets = np.zeros((2, rows, slots), np.int32)
        self._prefix_length = prefix_length
        self._used_slots, self._count = np.zeros(rows, int), np.zeros(rows, int)

    def add(self, sequence: TokenSequence, row: int, start: int) -> slice:
        """Writes a sequence, without the prefix, into a row.

        The answer tokens are the tokens from index max(`sequence.begin`, 1) to the end.

        Args:
            sequence: the sequence to write.
            row: index of the row.
            start: index in the row at which the sequence starts.

        Returns:
            The slice of the row's A answer tokens that belongs to this sequence.
        """
        skip, first = self._prefix_length, max(sequence.begin, 1)
        span = slice(start, start + len(sequence) - skip)
        self._count[row] += 1
        self.tokens[row, span] = sequence.tokens[skip:]
        self.positions[row, span] = np.arange(skip, len(sequence))
        self.segments[row, span] = self._count[row]
        slots = slice(self._used_slots[row], self._used_slots[row] + len(sequence) - first)
        self.answer_positions[row, slots] = start - skip - 1 + np.arange(first, len(sequence))
        self.targets[row, slots] = sequence.tokens[first:]
        self._used_slots[row] = slots.stop
        return slots

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns the five arrays in the order in which `TrainBatch` lists them."""
        return self.tokens, self.positions, self.segments, self.answer_positions, self.targets


class _Item(NamedTuple):
    """Sequence of a micro-batch, with its place in the loss.

    Attributes:
        sequence: the sequence.
        term: index t of the term.
        weight: weight of the sequence in its term.
        index: value of `TrainBatch.sequence_index` for the tokens of the sequence, if the loss
            needs a value per sequence of this term.
    """

    sequence: TokenSequence
    term: int
    weight: float
    index: int


@dataclasses.dataclass(frozen=True)
class Packer:
    """Packer that puts the sequences of a step into a fixed number of rows of variable length.

    Attributes:
        prefix: token ids with which all sequences of the run start, int32. Rows leave them out.
        rows: number of rows per micro-batch.
        shortest_row: minimum number of tokens per row, so that short steps do not compile further
            shapes.
        loss_mean, accumulation_mean: settings of `TrainConfig`.
    """

    prefix: np.ndarray
    rows: int
    shortest_row: int = _ROW_MULTIPLE
    loss_mean: str = "tokens"
    accumulation_mean: str = "step"

    @staticmethod
    def fit(
        prefix: np.ndarray,
        typical: Sequence[int],
        batch: int,
        row_multiple: int,
        *,
        loss_mean: str = "tokens",
        accumulation_mean: str = "step",
    ) -> "Packer":
        """Builds a packer for about four sequences per row.

        With fewer sequences per row, rows differ more in length. With more sequences per row,
        attention takes more time.

        Args:
            prefix: token ids with which all sequences of the run start, int32.
            typical: expected number of tokens in each sequence, prefix included.
            batch: number of sequences in a micro-batch.
            row_multiple: number of which the number of rows is a multiple.
            loss_mean, accumulation_mean: settings of `TrainConfig`.
        """
        mean = max(1.0, float(np.mean(typical)) - len(prefix))
        rows = round_up(-(-batch // _SEQUENCES_A_ROW), row_multiple)
        shortest = round_up(int(batch * mean / rows), _ROW_MULTIPLE)
        return Packer(prefix, rows, max(shortest, 1), loss_mean, accumulation_mean)

    def pack(
        self,
        terms: Sequence[Sequence[TokenSequence]],
        coefficients: Sequence[float],
        *,
        weights: Sequence[Sequence[float]] | None = None,
        micro_batches: int = 1,
        reference: Sequence[Sequence[float]] | None = None,
    ) -> TrainBatch:
        """Packs the sequences of one gradient step on the host.

        Every term of the loss is a mean over its answer tokens in the step, or over its answers if
        `loss_mean` is "answers". If `accumulation_mean` is "micro_batches", this mean is computed
        in each micro-batch, and the term is the mean of the results. The sequence `terms[t][i]` is
        in micro-batch `i * micro_batches // len(terms[t])`.

        Args:
            terms: the sequences of each term t. Each term has a multiple of `micro_batches`
                sequences.
            coefficients: factor of each term.
            weights: weight of each sequence in its term. A weight of 0 leaves the sequence out.
                None means that every weight is 1.
            micro_batches: number of micro-batches.
            reference: for each of the first `len(reference)` terms, the cross-entropy of each
                sequence under the model before unlearning. All these terms have the same number of
                sequences. None means that the loss needs no value per sequence.

        Returns:
            The arrays of the step on the host, with the shapes that `TrainBatch` states.
        """
        parts = _by_micro_batch(terms, weights, micro_batches)
        placements = [self._assign_rows([item.sequence for item in part]) for part in parts]
        size, slots = self._shape(parts, placements)
        packed = [PackedRows(self.rows, size, slots, len(self.prefix)) for _ in parts]
        answers = (micro_batches, self.rows, slots)
        no_index = 0 if reference is None else sum(map(len, reference)) // micro_batches
        sequence_index = np.full(answers, no_index, np.int32)
        loss_weights = np.zeros((len(terms), *answers), np.float32)
        for m, (part, placement) in enumerate(zip(parts, placements, strict=True)):
            for item, (row, start) in zip(part, placement, strict=True):
                span = packed[m].add(item.sequence, row, start)
                sequence_index[m, row, span] = min(item.index, no_index)
                tokens = span.stop - span.start if self.loss_mean == "answers" else 1
                loss_weights[item.term, m, row, span] = item.weight / tokens
        if self.accumulation_mean == "step":
            total = loss_weights.sum((1, 2, 3), keepdims=True)
        else:
            total = loss_weights.sum((2, 3), keepdims=True) * micro_batches
        np.divide(loss_weights, total, out=loss_weights, where=total > 0)
        arrays = map(np.stack, zip(*(rows.arrays() for rows in packed), strict=True))
        factors = np.array(coefficients, np.float32)
        batch = TrainBatch(*arrays, loss_weights, factors, self.prefix)
        if reference is None:
            return batch
        each = np.array(reference, np.float32).reshape(len(reference), micro_batches, -1)
        return batch._replace(sequence_index=sequence_index, reference=np.moveaxis(each, 1, 0))

    def _assign_rows(self, sequences: Sequence[TokenSequence]) -> list[tuple[int, int]]:
        """Assigns sequences to rows, longest first, each to the emptiest row.

        Returns:
            For each sequence, the index of its row and the index in the row at which it starts.
        """
        used = [(0, row) for row in range(self.rows)]  # This heap counts the tokens in each row.
        placement = [(0, 0)] * len(sequences)
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            tokens, row = used[0]
            placement[i] = (row, tokens)
            heapq.heapreplace(used, (tokens + len(sequences[i]) - len(self.prefix), row))
        return placement

    def _shape(
        self, parts: Sequence[Sequence[_Item]], placements: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[int, int]:
        """Computes the numbers of tokens and of answer tokens per row.

        Both numbers are rounded up, so that a run compiles few shapes. The number of answer tokens
        is at least about half of the number of tokens.
        """
        size, counts = self.shortest_row, np.zeros((len(parts), self.rows), int)
        for m, (part, placement) in enumerate(zip(parts, placements, strict=True)):
            for (sequence, *_), (row, start) in zip(part, placement, strict=True):
                size = max(size, start + len(sequence) - len(self.prefix))
                counts[m, row] += len(sequence) - sequence.begin
        size = round_up(size, _ROW_MULTIPLE)
        slots = max(_ROW_MULTIPLE * (size // (2 * _ROW_MULTIPLE)), counts.max())
        return size, round_up(max(slots, 1), _ROW_MULTIPLE)


def _by_micro_batch(
    terms: Sequence[Sequence[TokenSequence]],
    weights: Sequence[Sequence[float]] | None,
    micro_batches: int,
) -> list[list[_Item]]:
    """Divides the sequences of each term among the micro-batches, and omits those of weight 0."""
    parts = [[] for _ in range(micro_batches)]
    for t, sequences in enumerate(terms):
        each = len(sequences) // micro_batches
        for i, sequence in enumerate(sequences):
            if weight := 1.0 if weights is None else float(weights[t][i]):
                parts[i // each].append(_Item(sequence, t, weight, t * each + i % each))
    return parts
