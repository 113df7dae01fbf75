"""Partial model collapse: the algorithm, as functions of plain host data.

    Scholten, Xhonneux, Schwinn, Günnemann, "Model PMCSource Is Not a Bug but a Feature in Machine
    Unlearning for LLMs", ICLR 2026, arXiv 2507.04219.

The forget *answers* are never used. The model is asked the forget questions and trained on its
own samples, chosen to be unlike what it said before, until its answers have collapsed away:

    0. original answers: the untouched model's greedy answer to every forget question, once
    for each step of `plan` (forget rows of the epoch's order, as many random retain rows):
        1. questions of the step whose stored score is above 0 are sampled, K answers each
        2. each sample is scored against the original answer; one of the K is selected and
           replaces the stored answer unless it is worse                     (`update_store`)
        3. one gradient step on   CE(stored answers) + lambda · CE(retain pairs)

Which of the K is selected is the generalised Bradley-Terry choice with reward r = 1 - score:

    P(k) = exp(r_k / tau) / sum_j exp(r_j / tau)          "bradley_terry"
    argmax r_k, the limit tau -> 0                        "best", the published choice

This file does not know how answers are sampled, tokenised or trained on, and holds no state:
what it draws depends on (seed, step) alone, so that a resumed run needs no saved generator.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pmc_jax.scoring import Score, is_empty, score_batch, worst_where
from pmc_jax.scoring.rouge import rougeL_recall_many
from pmc_jax.training.order import epoch_rows, total_steps
from pmc_jax.unlearning.store import ResponseStore

_RETAIN, _SELECT, _DROP, _BEGIN = 2, 3, 6, 7


@dataclass(frozen=True)
class Step:
    """The rows of one gradient step.

    Attributes:
        epoch: of the first row, from 0.
        index: the step's number in the whole run, from 0.
        forget: int64 [rows], indices into the forget questions.
        retain: int64 [retain_rows x rows], indices into the retain pairs.
    """

    epoch: int
    index: int
    forget: np.ndarray
    retain: np.ndarray


def select(scores: np.ndarray, selection: str, tau: float, rng: np.random.Generator) -> int:
    """The index of the sample that is kept.

    Args:
        scores: float [K], K >= 1, finite, lower is better.
        selection: "best" (lowest score, the first of equals) or "bradley_terry".
        tau: temperature of "bradley_terry", >= 0; 0 is "best".
        rng: drawn from once by "bradley_terry" with tau > 0, else untouched.

    Raises:
        ValueError: another selection, or a negative tau.
    """
    if selection not in ("best", "bradley_terry"):
        raise ValueError(f"selection is best or bradley_terry, not {selection!r}")
    if tau < 0:
        raise ValueError(f"tau is {tau}; it must be 0 or more")
    scores = np.asarray(scores, np.float64)
    if selection == "best" or tau == 0:
        return int(np.argmin(scores))
    # r_k - r_best <= 0: no exponential overflows; a tiny tau sends the others to exp(-inf) = 0.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((scores.min() - scores) / tau)
    return int(rng.choice(len(scores), p=weights / weights.sum()))


def selection_rng(seed: int, step: int, question: int, *attempt: int) -> np.random.Generator:
    """The generator for one question's selection in one step (all are 0 or more), and in a later
    attempt of it.
    """
    return np.random.default_rng([seed, _SELECT, step, question, *attempt])


def question_word_dropout(question: str, dropout: float, seed: int, step: int, index: int) -> str:
    """A question with each of its words left out at random; whole where none would be left.

    Args:
        question: words are what white space separates.
        dropout: probability with which a word is left out.
        seed, step, index: of the run, of its gradient step, of the question; all 0 or more.
    """
    words = question.split()
    kept = np.random.default_rng([seed, _DROP, step, index]).random(len(words)) >= dropout
    return " ".join(itertools.compress(words, kept)) or question


def sample_answer_prefix(
    answer: Sequence[int], recovery: float, seed: int, step: int, index: int
) -> list[int]:
    """The beginning of an answer with probability `recovery`, of 1 token to all but one, uniform;
    else nothing.

    Args:
        answer: token ids.
        recovery: see `PMCConfig`.
        seed, step, index: as of `question_word_dropout`.
    """
    rng = np.random.default_rng([seed, _BEGIN, step, index])
    if len(answer) < 2 or rng.random() >= recovery:
        return []
    return list(answer[: rng.integers(1, len(answer))])


def plan(
    num_forget: int,
    num_retain: int,
    rows_a_step: int,
    epochs: int,
    seed: int,
    *,
    start: int = 0,
    retain_rows: int = 1,
) -> Iterator[Step]:
    """The rows of every step of a run.

    The epochs visit every forget question in the order of `epoch_order`, see `epoch_rows`. Retain
    rows are drawn uniformly with replacement.

    Args:
        num_forget: number of forget questions, >= 1.
        num_retain: number of retain pairs, >= 1.
        rows_a_step: forget rows a gradient step (all micro-batches together).
        epochs: passes over the forget questions.
        seed: 0 or more.
        start: the first step to give; the steps are the same as without it (resume).
        retain_rows: retain rows a forget row.

    Raises:
        ValueError: a count that is below 1.
    """
    counts = {"num_forget": num_forget, "num_retain": num_retain, "rows_a_step": rows_a_step}
    counts["retain_rows"] = retain_rows
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"plan: {name} is {count}; it must be at least 1")

    def walk() -> Iterator[Step]:
        for index in range(start, total_steps(num_forget, rows_a_step, epochs)):
            forget = epoch_rows(num_forget, rows_a_step, index, seed)
            draws = np.random.default_rng([seed, _RETAIN, index])
            retain = draws.integers(num_retain, size=rows_a_step * retain_rows)
            yield Step(index * rows_a_step // num_forget, index, forget, retain)

    return walk()


def update_store(
    store: ResponseStore,
    ids: Sequence[str],
    originals: Sequence[str],
    samples: Sequence[Sequence[str]],
    score: Score,
    selection: str,
    tau: float,
    rng: np.random.Generator,
) -> float:
    """Scores fresh samples, selects one a question (`choose`) and offers it to the store.

    Args:
        store: changed in place.
        ids: B question ids.
        originals, samples, score, selection, tau, rng: see `choose`, in the order of `ids`.

    Returns:
        The mean score of the B selected samples (whether the store took them or not); nan for an
        empty batch.

    Raises:
        ValueError: lengths that do not fit, or a score that is not K finite numbers.
    """
    if len(ids) != len(originals):
        raise ValueError(f"update_store: {len(ids)} ids but {len(originals)} original answers")
    guard = store.guard_empty
    chosen = choose(originals, samples, score, selection, tau, rng, guard_empty=guard)
    for id, texts, (k, value, _) in zip(ids, samples, chosen, strict=True):
        store.offer(id, texts[k], value)
    return float(np.mean([value for _, value, _ in chosen])) if chosen else float("nan")


def choose(
    originals: Sequence[str],
    samples: Sequence[Sequence[str]],
    score: Score,
    selection: str,
    tau: float,
    rng: np.random.Generator,
    *,
    guard_empty: bool,
    coherent: Sequence[np.ndarray] | None = None,
    order: Sequence[np.ndarray] | None = None,
) -> list[tuple[int, float, list[float]]]:
    """Scores fresh samples and selects one a question.

    Args:
        originals: B original answers.
        samples: B × K fresh samples.
        score: from `scores.run_score`, or any `Score`.
        selection, tau, rng: see `select`; questions draw from `rng` in their order.
        guard_empty: an empty sample is selected only where all K are empty; a store that guards
            against empty answers does not take it.
        coherent: B × bool [K], see `scores.coherent`; None: all are. Others get the worst score and
            are selected only where nothing else is left, and then resolve no question.
        order: B × int [K], indices of the samples in the order in which "best" prefers them where
            scores are equal, see `scores.preference`; None: the first.

    Returns:
        Of each question the index of the selected sample, its score, and the scores of all K.

    Raises:
        ValueError: lengths that do not fit, or a score that is not K finite numbers.
    """
    scores, chosen = score_batch(score, originals, samples), []
    for row, texts in enumerate(samples):
        eligible = np.arange(len(texts)) if order is None else order[row]
        if guard_empty:
            speaking = np.array([not is_empty(text) for text in texts], bool)
            eligible = _those(speaking[eligible], eligible)
        if coherent is not None:
            scores[row] = worst_where(~coherent[row], scores[row])
            eligible = _those(coherent[row][eligible], eligible)
        k = int(eligible[select(scores[row, eligible], selection, tau, rng)])
        chosen.append((k, float(scores[row, k]), scores[row].tolist()))
    return chosen


def _those(kept: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The indices that are kept, or all where none is."""
    return indices[kept] if kept.any() else indices


def score_moments(
    scores: Sequence[tuple[float, Sequence[float]]],
) -> tuple[float, float, float]:
    """Of one round: mean score of the selected samples, mean and deviation of all (the reward's
    expectation and spread, up to its sign, whose limits the theory gives).

    Args:
        scores: of each question that of the selected sample, and those of all K.
    """
    every = np.concatenate([each for _, each in scores])
    selected = math.fsum(one for one, _ in scores) / len(scores)
    return selected, float(every.mean()), float(every.std())


def overlap(originals: Sequence[str], answers: Sequence[str | None]) -> float:
    """How much of the original answers is in the answers that are trained on.

    The honest side of "no forget answer is a target": while the model has not collapsed, its own
    samples may still hold what it knew. Always ROUGE-L recall, whatever score selects.

    Args:
        originals: N original answers.
        answers: N stored answers; those that are None are left out.

    Returns:
        Mean ROUGE-L recall in [0, 1]; nan when no question has an answer.
    """
    if len(originals) != len(answers):
        raise ValueError(f"overlap: {len(originals)} original answers but {len(answers)} answers")
    pairs = [pair for pair in zip(originals, answers, strict=True) if pair[1] is not None]
    if not pairs:
        return float("nan")
    return float(rougeL_recall_many(*zip(*pairs, strict=True)).mean())
