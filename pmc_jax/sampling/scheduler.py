"""Which sample decodes in which slot: host bookkeeping, no devices, no text.

The index spaces are those of `pmc_jax.sampling.engine`. A row serves one question at a time, whose
prompt its slots share; a slot decodes one sample at a time. Idle slots take the next sample of
their row's question, idle rows the next question, and when no sample waits the active ones move
into a smaller batch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

IDLE = -1


@dataclasses.dataclass
class Batch:
    """What the slots of a decode batch do.

    Attributes:
        rows: i32[B], index of the question whose prompt a row holds; IDLE where none.
        question: i32[B,K], index of the question of the slot's sample; IDLE where it decodes none.
        sample: i32[B,K].
    """

    rows: np.ndarray
    question: np.ndarray
    sample: np.ndarray

    @staticmethod
    def empty(rows: int, slots: int) -> "Batch":
        shape = (rows, slots)
        return Batch(np.full(rows, IDLE), np.full(shape, IDLE), np.zeros(shape, int))

    @property
    def active(self) -> np.ndarray:
        """bool[B,K]."""
        return self.question != IDLE

    def active_slots(self) -> list[tuple[int, int]]:
        """(row, slot) of the active ones."""
        return [(int(row), int(slot)) for row, slot in np.argwhere(self.active)]


class Scheduler:
    """The state of all samples of a call.

    Args:
        num_questions, num_samples: of the call.
        max_new_tokens: tokens at most, the end token included.
        end_tokens: any of these ends a sample.

    Attributes:
        tokens: i32[n,K,max_new_tokens], -1 where there is none (yet); end tokens are kept.
        nll: f32[n,K,max_new_tokens], negative log-probability of each token.
        count: i32[n,K], tokens so far.
        waiting: by question, the samples that have their first token and no slot yet; only
            questions that have some.
    """

    def __init__(
        self, num_questions: int, num_samples: int, max_new_tokens: int, end_tokens: Sequence[int]
    ):
        shape = (num_questions, num_samples)
        self.tokens = np.full((*shape, max_new_tokens), -1, np.int32)
        self.nll = np.zeros(self.tokens.shape, np.float32)
        self.count = np.zeros(shape, np.int32)
        self._ends = frozenset(end_tokens)
        self.waiting: dict[int, list[int]] = {}
        self._unfinished: dict[int, int] = {}  # question -> samples that have not ended

    def start(self, questions: Sequence[int], first: np.ndarray, nll: np.ndarray) -> list[int]:
        """Adds the first tokens i32[len(questions),K] and their `nll` f32[len(questions),K];
        returns the questions that ended with them.
        """
        ended = []
        for question, row, row_nll in zip(questions, first, nll, strict=True):
            self.tokens[question, :, 0], self.nll[question, :, 0] = row, row_nll
            self.count[question] = 1
            started = [k for k in range(len(row)) if not self._is_done(question, k)]
            self._unfinished[question] = len(started)
            if started:
                self.waiting[question] = started
            else:
                ended.append(question)
        return ended

    def _is_done(self, question: int, sample: int) -> bool:
        count = self.count[question, sample]
        last = self.tokens[question, sample, count - 1]
        return count == self.tokens.shape[-1] or int(last) in self._ends

    def assign(self, batch: Batch) -> list[tuple[int, int]]:
        """Assigns waiting samples to idle slots; returns (row, question) where the row needs the
        question's prompt.
        """
        new_prompts = []
        for row in np.flatnonzero((~batch.active).any(1)):
            if not batch.active[row].any() and batch.rows[row] not in self.waiting:
                started = set(batch.rows[batch.active.any(1)].tolist())
                fresh = next((q for q in self.waiting if q not in started), None)
                if fresh is None:  # a second row for the question that has most left to do
                    fresh = max(self.waiting, key=lambda q: len(self.waiting[q]), default=None)
                if fresh is None:
                    continue
                batch.rows[row] = fresh
                new_prompts.append((int(row), fresh))
            question = int(batch.rows[row])
            for slot in np.flatnonzero(~batch.active[row]):
                if question not in self.waiting:
                    break
                batch.question[row, slot] = question
                batch.sample[row, slot] = self.waiting[question].pop(0)
                if not self.waiting[question]:
                    del self.waiting[question]
        return new_prompts

    def append_tokens(self, batch: Batch, new: np.ndarray, nll: np.ndarray) -> list[int]:
        """Adds the tokens i32[U,B,K] of a decode call, -1 where a slot did not decode, and their
        `nll` f32[U,B,K]; frees the slots of samples that ended and returns the questions of which
        all samples have.
        """
        ended = []
        for row, slot in batch.active_slots():
            question, sample = int(batch.question[row, slot]), int(batch.sample[row, slot])
            tokens = new[:, row, slot]
            decoded = tokens >= 0
            begin = self.count[question, sample]
            end = begin + int(decoded.sum())
            self.tokens[question, sample, begin:end] = tokens[decoded]
            self.nll[question, sample, begin:end] = nll[:, row, slot][decoded]
            self.count[question, sample] = end
            if self._is_done(question, sample):
                batch.question[row, slot] = IDLE
                self._unfinished[question] -= 1
                if not self._unfinished[question]:
                    ended.append(question)
        return ended


def compacted(batch: Batch, buckets: Sequence[tuple[int, int]]) -> tuple[Batch, np.ndarray] | None:
    """The smallest batch shape that holds what still decodes; None where it is the present one.

    A question with more active samples than a row has slots takes several rows.

    Args:
        buckets: the batch shapes.

    Returns:
        The batch, and i32[B',K'], the old slot (flat index) that each new one continues, 0 where
        idle.
    """
    questions, counts = np.unique(batch.question[batch.active], return_counts=True)
    fitting = [(b, k) for b, k in buckets if np.sum(-(-counts // k)) <= b]
    b, k = min(fitting, key=lambda shape: shape[0] * shape[1])
    if b * k >= batch.question.size:
        return None
    smaller, old_slots, new_row = Batch.empty(b, k), np.zeros((b, k), np.int32), 0
    for question in questions:
        old = [slot for slot in batch.active_slots() if batch.question[slot] == question]
        for begin in range(0, len(old), k):
            smaller.rows[new_row] = question
            for new_slot, (row, slot) in enumerate(old[begin : begin + k]):
                smaller.question[new_row, new_slot] = question
                smaller.sample[new_row, new_slot] = batch.sample[row, slot]
                old_slots[new_row, new_slot] = row * batch.question.shape[1] + slot
            new_row += 1
    return smaller, old_slots
