"""Training rows are packed: several sequences a row, apart by segment number."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.distributed.mesh import round_up
from pmc_jax.training.batch import TrainBatch

_ROW_MULTIPLE = 32


_SEQUENCES_A_ROW = 4


@dataclasses.dataclass(frozen=True)
class Packer:
    """Lays sequences out as packed rows, a fixed number of them, as long as a step needs.

    Attributes:
        prefix: i32[P], left out of the rows (`shared_prefix` of the run's prompts).
        rows: R.
        longest: tokens of a sequence at most, without the prefix.
        shortest_row: S is at least this: a step shorter than most is not worth a shape of its own.
        loss_mean: see `TrainConfig`.
    """

    prefix: np.ndarray
    rows: int
    longest: int
    shortest_row: int = _ROW_MULTIPLE
    loss_mean: str = "tokens"

    @staticmethod
    def fit(
        prefix: np.ndarray,
        typical: Sequence[int],
        longest: int,
        batch: int,
        row_multiple: int,
        loss_mean: str = "tokens",
    ) -> "Packer":
        """About four sequences a row: fewer leave rows of unequal length, more cost attention.

        Args:
            typical: lengths of whole sequences as expected, in tokens.
            longest: length that may come.
            batch: sequences in a micro-batch.
            row_multiple: R is a multiple of this.
        """
        mean = max(1.0, float(np.mean(typical)) - len(prefix))
        rows = round_up(-(-batch // _SEQUENCES_A_ROW), row_multiple)
        shortest = round_up(int(batch * mean / rows), _ROW_MULTIPLE)
        return Packer(prefix, rows, longest - len(prefix), max(shortest, 1), loss_mean)

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
        in each micro-batch, averaged over the micro-batches; `terms[t][i]` goes to micro-batch
        `i * micro_batches // len(terms[t])`.

        Args:
            terms: the sequences of each term, a multiple of `micro_batches` of them.
            coefficients: factor of each term.
            weights: of each sequence, 0 leaves it out of its term; None = all 1.
            micro_batches: M.
            reference: cross-entropy of each sequence of the first terms, equally many in each,
                under the model before unlearning, for losses of single sequences; None = none is.
        """
        parts = [[] for _ in range(micro_batches)]
        for t, sequences in enumerate(terms):
            each = len(sequences) // micro_batches
            for i, sequence in enumerate(sequences):
                weight = 1.0 if weights is None else float(weights[t][i])
                if weight:
                    parts[i // each].append((t, weight, sequence, t * each + i % each))
        placed = [self._place([s for _, _, s, _ in part]) for part in parts]
        size, counts = self.shortest_row, np.zeros((micro_batches, self.rows), int)
        for m, (places, part) in enumerate(zip(placed, parts, strict=True)):
            for (row, begin), (_, _, s, _) in zip(places, part, strict=True):
                size = max(size, begin + len(s) - len(self.prefix))
                counts[m, row] += len(s) - s.begin
        size = round_up(size, _ROW_MULTIPLE)
        slots = max(_ROW_MULTIPLE * (size // (2 * _ROW_MULTIPLE)), counts.max())
        slots = round_up(max(slots, 1), _ROW_MULTIPLE)
        shape, answers = (micro_batches, self.rows, size), (micro_batches, self.rows, slots)
        tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
        at, targets = np.zeros(answers, np.int32), np.zeros(answers, np.int32)
        singles = 0 if reference is None else sum(map(len, reference)) // micro_batches
        owner = np.full(answers, singles, np.int32)
        shares = np.zeros((len(terms), *answers), np.float32)
        skip = len(self.prefix)
        for m, (part, places) in enumerate(zip(parts, placed, strict=True)):
            used, count = np.zeros(self.rows, int), np.zeros(self.rows, int)
            for (t, weight, sequence, own_number), (row, begin) in zip(part, places, strict=True):
                own = sequence.tokens[skip:]
                where = slice(begin, begin + len(own))
                tokens[m, row, where] = own
                positions[m, row, where] = skip + np.arange(len(own))
                count[row] += 1
                segments[m, row, where] = count[row]
                answer = len(sequence) - sequence.begin
                slot = slice(used[row], used[row] + answer)
                at[m, row, slot] = begin + sequence.begin - skip - 1 + np.arange(answer)
                targets[m, row, slot] = sequence.tokens[sequence.begin :]
                owner[m, row, slot] = min(own_number, singles)
                shares[t, m, row, slot] = weight / (answer if self.loss_mean == "answers" else 1)
                used[row] += answer
        total = shares.sum((2, 3), keepdims=True) * micro_batches
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        return TrainBatch(
            tokens,
            positions,
            segments,
            at,
            targets,
            shares,
            np.array(coefficients, np.float32),
            self.prefix,
            *(() if reference is None else (owner, _by_micro_batch(reference, micro_batches))),
        )

    def _place(self, sequences: Sequence[TokenSequence]) -> list[tuple[int, int]]:
        """(row, first token) of each sequence: longest first, into the row that has least."""
        used = np.zeros(self.rows, int)
        places = [(0, 0)] * len(sequences)
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            row = int(used.argmin())
            places[i] = (row, int(used[row]))
            used[row] += len(sequences[i]) - len(self.prefix)
        return places


def _by_micro_batch(numbers: Sequence[Sequence[float]], micro_batches: int) -> np.ndarray:
    """[T, rows] -> f32[M,T,B]."""
    array = np.array(numbers, np.float32)
    return np.moveaxis(array.reshape(len(array), micro_batches, -1), 1, 0)
