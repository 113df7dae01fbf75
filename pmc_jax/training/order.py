"""Which rows each gradient step trains on, and the random streams that a run draws from.

Every draw depends only on the seed, the stream and numbers such as the step. A resumed run
therefore needs no saved random state.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


class Stream(enum.IntEnum):
    """One number for each purpose, so that draws for different purposes are independent."""

    ORDER = 1
    RETAIN = 2
    SELECT = 3
    REFUSAL = 4
    RETAIN_LOSS = 5
    WORD_DROPOUT = 6
    ANSWER_PREFIX = 7


def stream_rng(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """The generator for one purpose. `numbers`, such as the step and the question, distinguish its
    draws; each is >= 0.
    """
    return np.random.default_rng([seed, int(stream), *numbers])


@dataclass(frozen=True)
class Step:
    """The rows of one gradient step.

    Attributes:
        epoch: epoch of the first row, from 0.
        index: index of the step in the run, from 0.
        forget: int64 [rows], indices of forget questions.
        retain: int64 [retain_rows x rows], indices of retain pairs.
    """

    epoch: int
    index: int
    forget: np.ndarray
    retain: np.ndarray


def epoch_order(num_rows: int, epoch: int, seed: int) -> np.ndarray:
    """The order of the rows in an epoch: a permutation, int64 [num_rows]."""
    return stream_rng(seed, Stream.ORDER, epoch).permutation(num_rows)


def total_steps(num_rows: int, rows_per_step: int, epochs: int) -> int:
    """The number of gradient steps that train on all rows of all epochs, rounded up."""
    return -(-num_rows * epochs // rows_per_step)


def epoch_rows(num_rows: int, rows_per_step: int, step: int, seed: int) -> np.ndarray:
    """The rows of one step, int64 [rows]. The concatenated orders of all epochs are cut into steps.

    A step may hold the end of one epoch and the start of the next (the published Phi run takes 400
    questions 40 times, 64 per step: 250 steps). One more order fills the last step, so that shapes
    stay fixed.
    """
    positions = np.arange(step * rows_per_step, (step + 1) * rows_per_step)
    orders = {e: epoch_order(num_rows, int(e), seed) for e in np.unique(positions // num_rows)}
    return np.array([orders[i // num_rows][i % num_rows] for i in positions])


def plan_steps(
    num_forget: int,
    num_retain: int,
    rows_per_step: int,
    epochs: int,
    seed: int,
    *,
    start: int = 0,
    retain_rows: int = 1,
) -> Iterator[Step]:
    """Yields the rows of each step of an unlearning run.

    Every epoch visits all forget questions, see `epoch_rows`. Retain rows are drawn uniformly with
    replacement.

    Args:
        num_forget: number of forget questions, >= 1.
        num_retain: number of retain pairs, >= 1.
        rows_per_step: forget rows of a gradient step, summed over its micro-batches, >= 1.
        epochs: passes over the forget questions.
        seed: >= 0.
        start: the first step to yield, for a resumed run; it does not change the steps.
        retain_rows: retain rows for each forget row, >= 1.
    """
    for index in range(start, total_steps(num_forget, rows_per_step, epochs)):
        forget = epoch_rows(num_forget, rows_per_step, index, seed)
        draws = stream_rng(seed, Stream.RETAIN, index)
        retain = draws.integers(num_retain, size=rows_per_step * retain_rows)
        yield Step(index * rows_per_step // num_forget, index, forget, retain)
