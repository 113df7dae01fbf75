"""Partial Model Collapse: the algorithm of the paper, in its order.

    Scholten, Xhonneux, Schwinn, Günnemann, "Model Collapse Is Not a Bug but a Feature in Machine
    Unlearning for LLMs", ICLR 2026, arXiv 2507.04219.

The true answers to the forget questions are never used. The model answers these questions itself
and is fine-tuned on those of its own answers that are least like its original ones, until its
answers have collapsed away from what it knew:

    original_answers   the untouched model's greedy answer to every forget question, once
    run_round          sample K answers to each question, score them, select one, store it
    step_rows          one gradient step on  CE(stored answers) + lambda · CE(retain pairs)

This file knows no model, no tokenizer and no device: the caller passes in how answers are sampled,
scored (by default ROUGE-L recall against the original answer, `scoring.text`) and selected (the
lowest score, `select_index` below). What this library adds to the paper is in `extensions.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pmc_jax.training.order import Step
from pmc_jax.unlearning.source import TermRows
from pmc_jax.unlearning.store import ReplacementStore


class Rollout(NamedTuple):
    """K sampled answers to one question.

    Attributes:
        texts: the answers.
        length: int [K], tokens of each.
        mean_nll: float [K], mean negative log-probability per token at temperature 1.
    """

    texts: list[str]
    length: np.ndarray
    mean_nll: np.ndarray


class Selection(NamedTuple):
    """The sample that was selected for a question.

    Attributes:
        question: id of the question.
        answer: text of the selected sample.
        score: its score.
        scores: scores of all K samples.
        shareable: samples that may replace the answers to other questions too, each with its mean
            negative log-probability per token; empty unless answers are shared.
    """

    question: str
    answer: str
    score: float
    scores: list[float]
    shareable: Sequence[tuple[str, float]] = ()


# What the caller passes in.
AnswerGreedily = Callable[[Sequence[str]], Mapping[str, str]]
# Draws K answers to each question (ids) under the current weights and maps each id and its answers
# through a function, on the host, while the device samples on.
Sample = Callable[[Sequence[str], Callable[[str, Rollout], Selection]], list[Selection]]
# (original answer, K answers) -> float64 [K], lower is better.
Score = Callable[[str, Sequence[str]], np.ndarray]
# (id, K answers, their scores) -> the selection.
Select = Callable[[str, Rollout, np.ndarray], Selection]


def original_answers(questions: Sequence[str], answer_greedily: AnswerGreedily) -> list[str]:
    """The untouched model's greedy answer to every forget question."""
    answers = answer_greedily(questions)
    return [answers[question] for question in questions]


def run_round(
    store: ReplacementStore,
    questions: Iterable[str],
    originals: Mapping[str, str],
    *,
    sample: Sample,
    score: Score,
    select: Select,
    revise: Callable[[list[Selection]], list[Selection]] = list,
) -> list[Selection]:
    """Samples K answers to each question without a good enough replacement and stores the best.

    Args:
        store: the replacement answers; changed in place.
        questions: ids of the questions of the next gradient steps.
        originals: id -> original answer.
        sample, score, select: see `Sample`, `Score` and `Select` above.
        revise: changes selections before they are stored (shared answers).

    Returns:
        The selections, before `revise`, in the order of the questions.
    """

    def score_and_select(question: str, answers: Rollout) -> Selection:
        return select(question, answers, score(originals[question], answers.texts))

    # Questions with a stored answer of score 0 are never sampled again.
    selections = sample(store.unreplaced(questions), score_and_select)
    for selection in revise(selections):
        # The new answer replaces the stored one unless its score is worse.
        store.offer(selection.question, selection.answer, selection.score)
    return selections


def step_rows(
    step: Step,
    store: ReplacementStore,
    ids: Sequence[str],
    encode: Callable[[int, int], Any],
    retain: Sequence[Any],
    max_train_score: float | None,
) -> dict[str, TermRows]:
    """The rows of one gradient step on CE(stored answers) + lambda · CE(retain pairs).

    `encode` maps (question index, step index) to the tokens of the question and its stored answer,
    whose weight is 0 above `max_train_score`; `training.losses.pmc` multiplies the retain term by
    lambda.
    """
    weights = store.trainable([ids[i] for i in step.forget], max_train_score).tolist()
    replacements = [encode(i, step.index) for i in step.forget]
    pairs = [retain[i] for i in step.retain]
    return {"collapse": TermRows(replacements, weights), "retain": TermRows(pairs)}


def select_index(scores: np.ndarray, rule: str, tau: float, rng: np.random.Generator) -> int:
    """The index of the selected sample: the generalised Bradley-Terry choice, reward r = 1 - score.

        P(k) = exp(r_k / tau) / sum_j exp(r_j / tau)          "bradley_terry"
        argmax r_k, the limit tau -> 0                        "best", the published choice

    Args:
        scores: float [K], K >= 1, finite, lower is better.
        rule: "best" (lowest score, the first of equals) or "bradley_terry".
        tau: temperature of "bradley_terry", >= 0; 0 is "best".
        rng: drawn from once by "bradley_terry" with tau > 0, else untouched.
    """
    scores = np.asarray(scores, np.float64)
    if rule == "best" or tau == 0:
        return int(np.argmin(scores))
    # r_k - r_best <= 0: no exponential overflows; a tiny tau sends the others to exp(-inf) = 0.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((scores.min() - scores) / tau)
    return int(rng.choice(len(scores), p=weights / weights.sum()))
