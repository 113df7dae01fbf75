"""Chooses the rows of each gradient step, and defines the random streams of a run.

Every draw depends only on the seed, the stream and numbers such as the step. A resumed run
therefore needs no saved random state.
"""

import dataclasses
import enum
from collections.abc import Iterator, Sequence

import numpy as np


class Stream(enum.IntEnum):
    """Random streams of a run. Each purpose has its own stream, so that draws are independent."""

    ORDER = 1
    RETAIN = 2
    SELECT = 3
    REFUSAL = 4
    RETAIN_LOSS = 5
    WORD_DROPOUT = 6
    ANSWER_PREFIX = 7
    ANSWER = 8
    FOCUS = 9


def stream_rng(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """Returns the random generator for one purpose.

    Args:
        seed: seed of the run.
        stream: purpose of the draws.
        numbers: numbers such as the step and the question, each at least 0. Different numbers give
            independent draws.
    """
    return np.random.default_rng([seed, int(stream), *numbers])


@dataclasses.dataclass(frozen=True)
class Step:
    """Rows of one gradient step in an unlearning run.

    Attributes:
        epoch: epoch of the first forget question, counted from 0.
        index: index of the step in the run, counted from 0.
        forget: indices of forget questions, int64 [number of forget questions].
        retain: indices of retain pairs, int64 [number of retain pairs].
    """

    epoch: int
    index: int
    forget: np.ndarray
    retain: np.ndarray


def focused(step: Step, questions: Sequence[int], share: float, seed: int) -> Step:
    """Replaces forget rows of a step with some of the given questions.

    Args:
        step: step whose rows are replaced.
        questions: indices of questions; if there are none, the step is returned as it is.
        share: probability with which each forget row is replaced.
        seed: seed of the run.
    """
    if not len(questions):
        return step
    draws = stream_rng(seed, Stream.FOCUS, step.index)
    drawn = draws.choice(questions, size=len(step.forget))
    forget = np.where(draws.random(len(step.forget)) < share, drawn, step.forget)
    return dataclasses.replace(step, forget=forget)


def epoch_order(num_rows: int, epoch: int, seed: int) -> np.ndarray:
    """Draws the order of the rows in an epoch as a permutation, int64 [num_rows]."""
    return stream_rng(seed, Stream.ORDER, epoch).permutation(num_rows)


def total_steps(num_rows: int, rows_per_step: int, epochs: int) -> int:
    """Returns the number of gradient steps in all epochs. An incomplete last step counts."""
    return -(-num_rows * epochs // rows_per_step)


def epoch_rows(num_rows: int, rows_per_step: int, step: int, seed: int) -> np.ndarray:
    """Returns the indices of the rows in one step, int64 [rows_per_step].

    The orders of all epochs are concatenated and cut into steps. A step may contain the end of one
    epoch and the start of the next epoch. For example, the published Phi run visits 400 questions
    40 times with 64 questions per step, in 250 steps. An incomplete last step is filled with rows
    of one more epoch, so that array shapes stay fixed.
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
    retain_shares: np.ndarray | None = None,
) -> Iterator[Step]:
    """Yields the rows of each gradient step in an unlearning run.

    Every epoch visits all forget questions in a new order (`epoch_rows`). Retain rows are drawn
    with replacement.

    Args:
        num_forget: number of forget questions, at least 1.
        num_retain: number of retain pairs, at least 1.
        rows_per_step: number of forget rows per step, over all micro-batches, at least 1.
        epochs: number of passes over the forget questions.
        seed: seed of the run, at least 0.
        start: index of the first step to yield, for a resumed run. The rows of a step do not depend
            on this index.
        retain_rows: number of retain rows for each forget row, at least 1.
        retain_shares: probability with which each retain pair is drawn, float64 [num_retain]. None
            draws uniformly.
    """
    for index in range(start, total_steps(num_forget, rows_per_step, epochs)):
        forget = epoch_rows(num_forget, rows_per_step, index, seed)
        draws = stream_rng(seed, Stream.RETAIN, index)
        retain = draws.choice(num_retain, size=rows_per_step * retain_rows, p=retain_shares)
        yield Step(index * rows_per_step // num_forget, index, forget, retain)
