"""Which sample decodes in which cell of the grid: host bookkeeping, no devices, no text.

A grid has B rows and K cells a row. A row serves one question at a time, whose prompt its cells
share; a cell decodes one sample at a time. Cells that fall idle take the next sample of their
question, rows that fall idle the next question, and when nothing is left to begin the samples that
still decode move into a smaller grid.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

IDLE = -1


@dataclasses.dataclass
class Grid:
    """What the cells do.

    Attributes:
        rows: i32[B], the question whose prompt a row holds; IDLE where none.
        question, sample: i32[B,K]; question IDLE where a cell decodes nothing.
    """

    rows: np.ndarray
    question: np.ndarray
    sample: np.ndarray

    @staticmethod
    def empty(rows: int, cells: int) -> "Grid":
        shape = (rows, cells)
        return Grid(np.full(rows, IDLE), np.full(shape, IDLE), np.zeros(shape, int))

    @property
    def live(self) -> np.ndarray:
        """bool[B,K]."""
        return self.question != IDLE


class Schedule:
    """The state of all samples of a call.

    Args:
        num_questions, num_samples: of the call.
        max_new_tokens: tokens at most, the end token included.
        end_tokens: any of these ends a sample.

    Attributes:
        tokens: i32[n,K,max_new_tokens], -1 where none is (yet); end tokens are kept.
        nats: f32[n,K,max_new_tokens], how unlikely each token is.
        count: i32[n,K], tokens so far.
    """

    def __init__(
        self, num_questions: int, num_samples: int, max_new_tokens: int, end_tokens: Sequence[int]
    ):
        shape = (num_questions, num_samples)
        self.tokens = np.full((*shape, max_new_tokens), -1, np.int32)
        self.nats = np.zeros(self.tokens.shape, np.float32)
        self.count = np.zeros(shape, np.int32)
        self._ends = frozenset(end_tokens)
        self._waiting: dict[int, list[int]] = {}
        self._open: dict[int, int] = {}  # question -> samples that have not ended

    @property
    def waiting(self) -> set[int]:
        """Questions with samples that have their first token and no cell yet."""
        return set(self._waiting)

    def waiting_counts(self) -> list[int]:
        """How many samples wait, of each question that has some."""
        return [len(samples) for samples in self._waiting.values()]

    def begin(self, questions: Sequence[int], first: np.ndarray, nats: np.ndarray) -> list[int]:
        """Takes the first tokens i32[len(questions),K] and their nats f32[len(questions),K];
        returns questions that ended with them.
        """
        ended = []
        for question, row, unlikely in zip(questions, first, nats, strict=True):
            self.tokens[question, :, 0], self.nats[question, :, 0] = row, unlikely
            self.count[question] = 1
            began = [k for k in range(len(row)) if not self._is_done(question, k)]
            self._open[question] = len(began)
            if began:
                self._waiting[question] = began
            else:
                ended.append(question)
        return ended

    def _is_done(self, question: int, sample: int) -> bool:
        count = self.count[question, sample]
        last = self.tokens[question, sample, count - 1]
        return count == self.tokens.shape[-1] or int(last) in self._ends

    def fill(self, grid: Grid) -> list[tuple[int, int]]:
        """Gives waiting samples to idle cells; returns (row, question) where a prompt is to be
        placed.
        """
        placed = []
        for row in np.flatnonzero((~grid.live).any(1)):
            if not grid.live[row].any() and grid.rows[row] not in self._waiting:
                started = set(grid.rows[grid.live.any(1)].tolist())
                fresh = next((q for q in self._waiting if q not in started), None)
                if fresh is None:  # a second row for the question that has most left to do
                    fresh = max(self._waiting, key=lambda q: len(self._waiting[q]), default=None)
                if fresh is None:
                    continue
                grid.rows[row] = fresh
                placed.append((int(row), fresh))
            question = int(grid.rows[row])
            for cell in np.flatnonzero(~grid.live[row]):
                if question not in self._waiting:
                    break
                grid.question[row, cell] = question
                grid.sample[row, cell] = self._waiting[question].pop(0)
                if not self._waiting[question]:
                    del self._waiting[question]
        return placed

    def take(self, grid: Grid, new: np.ndarray, nats: np.ndarray) -> list[int]:
        """Adds the tokens i32[U,B,K] of a segment, -1 where a cell did not decode, and their nats
        f32[U,B,K]; frees the cells of samples that ended and returns questions of which all
        samples have.
        """
        ended = []
        for at in zip(*np.nonzero(grid.live), strict=True):
            question, sample = int(grid.question[at]), int(grid.sample[at])
            got = new[(slice(None), *at)]
            decoded = got >= 0
            begin, size = self.count[question, sample], int(decoded.sum())
            self.tokens[question, sample, begin : begin + size] = got[decoded]
            self.nats[question, sample, begin : begin + size] = nats[(slice(None), *at)][decoded]
            self.count[question, sample] += size
            if self._is_done(question, sample):
                grid.question[at] = IDLE
                self._open[question] -= 1
                if not self._open[question]:
                    ended.append(question)
        return ended


def shrunk(grid: Grid, ladder: Sequence[tuple[int, int]]) -> tuple[Grid, np.ndarray] | None:
    """The smallest grid of the ladder that holds what still decodes; None where it is this one.

    A question with more live samples than a row has cells takes several rows.

    Returns:
        The grid, and i32[B',K'], which old cell (flat index) each new one continues, 0 where idle.
    """
    live = np.argwhere(grid.live)
    questions, counts = np.unique(grid.question[grid.live], return_counts=True)
    fits = [(b, k) for b, k in ladder if np.sum(-(-counts // k)) <= b]
    b, k = min(fits, key=lambda shape: shape[0] * shape[1])
    if b * k >= grid.question.size:
        return None
    smaller, cells, row = Grid.empty(b, k), np.zeros((b, k), np.int32), 0
    for question in questions:
        old = [tuple(at) for at in live if grid.question[tuple(at)] == question]
        for begin in range(0, len(old), k):
            smaller.rows[row] = question
            for cell, at in enumerate(old[begin : begin + k]):
                smaller.question[row, cell] = question
                smaller.sample[row, cell] = grid.sample[at]
                cells[row, cell] = at[0] * grid.question.shape[1] + at[1]
            row += 1
    return smaller, cells
