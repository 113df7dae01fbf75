"""The order in which epochs visit their rows."""

import numpy as np

# One number a purpose, so that the draws of different purposes are independent; 4 is of
# `refusals`, 5 of `retained`.
_ORDER = 1


def epoch_order(num_forget: int, epoch: int, seed: int) -> np.ndarray:
    """The order of the forget questions in an epoch: a permutation, int64 [num_forget]."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(num_forget)


def total_steps(num_rows: int, rows_a_step: int, epochs: int) -> int:
    """Gradient steps of a run: all rows of all epochs, `rows_a_step` a step, rounded up."""
    return -(-num_rows * epochs // rows_a_step)


def epoch_rows(num_rows: int, rows_a_step: int, step: int, seed: int) -> np.ndarray:
    """The rows of one step: the epochs' orders one after the other, cut into steps, int64 [rows].

    A step may hold the end of one epoch and the start of the next (the published Phi run takes 400
    questions 40 times, 64 a step: 250 steps). The last step is filled up from one more order, so
    that shapes stay fixed.
    """
    wanted = np.arange(step * rows_a_step, (step + 1) * rows_a_step)
    orders = {e: epoch_order(num_rows, int(e), seed) for e in np.unique(wanted // num_rows)}
    return np.array([orders[i // num_rows][i % num_rows] for i in wanted])
