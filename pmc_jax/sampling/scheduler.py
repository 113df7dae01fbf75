"""State of all samples of one `Engine.generate` call, and assignment of the samples to slots.

This module runs on the host. `pmc_jax.sampling.batching` defines question index, row, slot and
sample. A row serves one question at a time, and its slots share the question's prompt. A slot
decodes one sample at a time. An idle slot gets the next sample of its row's question, and an idle
row gets the next question. When no sample waits, the active samples move into a smaller batch.
Axis letters: Q questions, K samples per question or slots per row, B rows, U steps of one call.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

IDLE = -1


@dataclasses.dataclass
class Batch:
    """Assignment of samples to the slots of a decode batch with B rows of K slots.

    Attributes:
        rows: int [B], index of the question whose prompt is in each row; IDLE = no prompt.
        question: int [B,K], question index of the sample in each slot; IDLE = no sample.
        sample: int [B,K], number of the sample in each slot.
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
        """Mask bool[B,K], True for slots that decode a sample."""
        return self.question != IDLE

    def active_slots(self) -> list[tuple[int, int]]:
        """Returns the pair (row, slot) of each slot that decodes a sample."""
        return [(int(row), int(slot)) for row, slot in np.argwhere(self.active)]


class Scheduler:
    """State of all samples in one call of `Engine.generate`.

    Args:
        num_questions: number Q of questions.
        num_samples: number K of samples per question.
        max_new_tokens: maximum number of tokens in a sample, the end token included.
        end_tokens: token ids that end a sample.

    Attributes:
        tokens: i32[Q,K,max_new_tokens], token ids, end tokens included; -1 after the newest token.
        nll: f32[Q,K,max_new_tokens], negative log-probability of each token.
        count: i32[Q,K], number of tokens generated so far.
        cut: bool[Q,K], True for samples that `end_early` has ended.
        waiting: dict from question index to the numbers of the samples that have a first token but
            no slot yet. Questions without such samples are absent.
    """

    def __init__(
        self, num_questions: int, num_samples: int, max_new_tokens: int, end_tokens: Sequence[int]
    ):
        shape = (num_questions, num_samples)
        self.tokens = np.full((*shape, max_new_tokens), -1, np.int32)
        self.nll = np.zeros(self.tokens.shape, np.float32)
        self.count = np.zeros(shape, np.int32)
        self.cut = np.zeros(shape, bool)
        self._ends = frozenset(end_tokens)
        self.waiting: dict[int, list[int]] = {}
        # question index -> number of its samples that have not ended
        self._unfinished: dict[int, int] = {}

    def start(self, questions: Sequence[int], first: np.ndarray, nll: np.ndarray) -> list[int]:
        """Stores the first token of each of the K samples of the given questions.

        Args:
            questions: question indices.
            first: i32[len(questions),K], token ids.
            nll: f32[len(questions),K], negative log-probability of each token.

        Returns:
            The indices of the questions whose samples have all ended.
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
        """Assigns waiting samples to idle slots of `batch`, which is changed in place.

        Returns:
            A pair (row, question index) for each row that now needs the prompt of another question.
        """
        new_prompts = []
        for row in np.flatnonzero((~batch.active).any(1)):
            if not batch.active[row].any() and batch.rows[row] not in self.waiting:
                started = set(batch.rows[batch.active.any(1)].tolist())
                fresh = next((q for q in self.waiting if q not in started), None)
                if fresh is None:  # The question with the most waiting samples gets another row.
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
        """Stores the tokens of a decoder call and frees the slots of samples that have ended.

        Args:
            batch: assignment during the call, which is changed in place.
            new: i32[U,B,K], token ids of U steps; -1 for a slot that did not decode.
            nll: f32[U,B,K], negative log-probability of each token.

        Returns:
            The indices of the questions whose samples have all ended.
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

    def unfinished(self) -> list[int]:
        """Returns the indices of the questions with samples that have started but not ended."""
        return [question for question, count in self._unfinished.items() if count]

    def end_early(self, batch: Batch, samples: Iterable[tuple[int, int]]) -> list[int]:
        """Ends samples before their last token, and frees their slots.

        Args:
            batch: current assignment, which is changed in place.
            samples: pairs of a question index and the number of a sample. Samples that have ended
                are ignored.

        Returns:
            The indices of the questions whose samples have now all ended.
        """
        ended = []
        for question, sample in samples:
            if self.cut[question, sample] or self._is_done(question, sample):
                continue
            self.cut[question, sample] = True
            waiting = self.waiting.get(question, [])
            if sample in waiting:
                waiting.remove(sample)
                if not waiting:
                    del self.waiting[question]
            else:
                batch.question[(batch.question == question) & (batch.sample == sample)] = IDLE
            self._unfinished[question] -= 1
            if not self._unfinished[question]:
                ended.append(question)
        return ended


def compacted(batch: Batch, buckets: Sequence[tuple[int, int]]) -> tuple[Batch, np.ndarray] | None:
    """Assigns the active samples to the smallest batch shape that holds them.

    A question with more active samples than slots per row takes several rows.

    Args:
        batch: current assignment.
        buckets: batch shapes (rows, slots per row).

    Returns:
        The assignment for the smaller batch, and for each of its B' rows and K' slots per row the
        flat index i32[B',K'] of the old slot that the slot continues (0 if it is idle). The
        function returns None if no smaller shape holds the samples.
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
