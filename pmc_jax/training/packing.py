"""Sequence packing: several sequences per row, separated by segment ids."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.distributed.mesh import round_up
from pmc_jax.training.batch import TrainBatch

_ROW_MULTIPLE = 32
_SEQUENCES_A_ROW = 4


class PackedRows:
    """Host arrays of R rows of S tokens with A scored positions each, filled by `add`.

    Attributes:
        tokens, positions, segments: i32[R,S], see `decoder.hidden_states`.
        answer_positions, targets: i32[R,A], see `TrainBatch`.

    Args:
        prefix_length: number of leading tokens of every sequence that the rows leave out.
    """

    def __init__(self, rows: int, size: int, slots: int, prefix_length: int):
        self.tokens, self.positions, self.segments = np.zeros((3, rows, size), np.int32)
        self.answer_positions, self.targets = np.zeros((2, rows, slots), np.int32)
        self._prefix_length = prefix_length
        self._used_slots, self._count = np.zeros(rows, int), np.zeros(rows, int)

    def add(self, sequence: TokenSequence, row: int, start: int) -> slice:
        """Writes a sequence to a row, from token `start` on. Its tokens from index max(`begin`, 1)
        on are scored.

        Returns:
            The positions of its scored tokens along A.
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
        """The attributes, in the order of a `TrainBatch`."""
        return self.tokens, self.positions, self.segments, self.answer_positions, self.targets


class _Item(NamedTuple):
    """A sequence of a micro-batch, its term t, its weight in the term, and its `sequence_index`."""

    sequence: TokenSequence
    term: int
    weight: float
    index: int


@dataclasses.dataclass(frozen=True)
class Packer:
    """Packs sequences into a fixed number of rows, which are as long as a step needs.

    Attributes:
        prefix: i32[P], left out of the rows (`shared_prefix` of the run's prompts).
        rows: R.
        shortest_row: lower bound of S, so that short steps do not compile shapes of their own.
        loss_mean: see `TrainConfig`.
    """

    prefix: np.ndarray
    rows: int
    shortest_row: int = _ROW_MULTIPLE
    loss_mean: str = "tokens"

    @staticmethod
    def fit(
        prefix: np.ndarray,
        typical: Sequence[int],
        batch: int,
        row_multiple: int,
        loss_mean: str = "tokens",
    ) -> "Packer":
        """A packer for about four sequences per row: with fewer, rows differ in length; with more,
        attention costs more.

        Args:
            typical: expected lengths of sequences, prefix included, in tokens.
            batch: sequences in a micro-batch.
            row_multiple: R is a multiple of this.
        """
        mean = max(1.0, float(np.mean(typical)) - len(prefix))
        rows = round_up(-(-batch // _SEQUENCES_A_ROW), row_multiple)
        shortest = round_up(int(batch * mean / rows), _ROW_MULTIPLE)
        return Packer(prefix, rows, max(shortest, 1), loss_mean)

    def pack(
        self,
        terms: Sequence[Sequence[TokenSequence]],
        coefficients: Sequence[float],
        *,
        weights: Sequence[Sequence[float]] | None = None,
        micro_batches: int = 1,
        reference: Sequence[Sequence[float]] | None = None,
    ) -> TrainBatch:
        """Packs one gradient step, on the host.

        Every term of the loss is the mean over its answer tokens (or its answers, see `loss_mean`)
        in each micro-batch, averaged over the micro-batches; `terms[t][i]` is part of micro-batch
        `i * micro_batches // len(terms[t])`.

        Args:
            terms: the sequences of each term; their number is a multiple of `micro_batches`.
            coefficients: factor of each term.
            weights: of each sequence, 0 leaves it out of its term; None = all 1.
            micro_batches: M.
            reference: cross-entropy of each sequence of the first U terms under the model before
                unlearning, equally many in each term; None = the loss reads no single sequences.
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
        """(row, first token) of each sequence: longest first, each in the emptiest row."""
        used = np.zeros(self.rows, int)
        placement = [(0, 0)] * len(sequences)
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            row = int(used.argmin())
            placement[i] = (row, int(used[row]))
            used[row] += len(sequences[i]) - len(self.prefix)
        return placement

    def _shape(
        self, parts: Sequence[Sequence[_Item]], placements: Sequence[Sequence[tuple[int, int]]]
    ) -> tuple[int, int]:
        """S and A, rounded up so that a run compiles few shapes; A is about half of S."""
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
    """The sequences of each micro-batch whose weight is not 0."""
    parts = [[] for _ in range(micro_batches)]
    for t, sequences in enumerate(terms):
        each = len(sequences) // micro_batches
        for i, sequence in enumerate(sequences):
            if weight := 1.0 if weights is None else float(weights[t][i]):
                parts[i // each].append(_Item(sequence, t, weight, t * each + i % each))
    return parts
