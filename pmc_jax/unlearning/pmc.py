"""Defines Partial Model Collapse (PMC) as in the paper and in the order of the paper.

    Scholten, Xhonneux, Schwinn, Günnemann, "Model Collapse Is Not a Bug but a Feature in Machine
    Unlearning for LLMs", ICLR 2026, arXiv 2507.04219.

PMC never uses the true answers to the forget questions. The model answers these questions itself,
and is trained on the sampled answers that are least similar to the original answers. Its answers
then collapse away from the original answers. The functions are:

    original_answers   returns the target model's greedy answer to every forget question
    run_round          samples K answers to each question, scores them, selects one and stores it
    step_rows          returns the rows of a step on CE(stored answers) + lambda · CE(retain pairs)

This module depends on no model, tokenizer or device. The caller passes functions that sample, score
and select answers. By default, the score is ROUGE-L recall against the original answer
(`scoring.text`), and the sample with the lowest score is selected (`select_index`). The module
`extensions` defines four of this library's additions to the paper.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pmc_jax.data.thoughts import answer_of
from pmc_jax.training.order import Step
from pmc_jax.unlearning.source import TermRows
from pmc_jax.unlearning.store import ReplacementStore


class Rollout(NamedTuple):
    """K sampled answers to one question.

    Attributes:
        texts: texts of the K answers.
        length: number of tokens of each answer, int [K].
        mean_nll: mean negative log-probability per token at temperature 1, float [K].
        ended: whether the model ended each answer within the maximum number of tokens, bool [K].
        is_whole: whether each answer was decoded to its end or to the maximum number of tokens,
            bool [K]. The text of any other answer is its beginning.
    """

    texts: list[str]
    length: np.ndarray
    mean_nll: np.ndarray
    ended: np.ndarray
    is_whole: np.ndarray

    def __repr__(self) -> str:
        """Returns the number of answers, but not their texts."""
        return f"Rollout({len(self.texts)} answers)"


class Selection(NamedTuple):
    """Sample that is selected for one question.

    Attributes:
        question: id of the question.
        answer: text of the selected sample. It is None if no sample is admitted and `pmc.answer` is
            not own, or if the sample that would be selected was ended early.
        score: score of the selected sample. If there is none, it is 1, or the lowest bound of the
            samples that were ended early.
        scores: scores of all K samples, or lower bounds for samples that were ended early.
        others: further samples, which training draws as often as `answer`.
        shareable: samples that may also replace answers to other questions, each with its mean
            negative log-probability per token. The sequence is empty unless answers are shared.
    """

    question: str
    answer: str | None
    score: float
    scores: list[float]
    others: Sequence[str] = ()
    shareable: Sequence[tuple[str, float]] = ()

    def __repr__(self) -> str:
        """Returns the question's id and the score, but not the answer."""
        return f"Selection({self.question!r}, score={self.score:.3g})"


# The caller passes functions of the following types.

# Function that maps questions to the model's greedy answers.
AnswerGreedily = Callable[[Sequence[str]], Mapping[str, str]]
# Function that samples K answers to each question id under the current weights. It calls its second
# argument with each id and its answers while the device continues to sample.
Sample = Callable[[Sequence[str], Callable[[str, Rollout], Selection]], list[Selection]]
# Function that maps an original answer and K answers to scores, float64 [K]. Lower is better.
Score = Callable[[str, Sequence[str]], np.ndarray]
# Function that maps a question id, K answers and their scores to the selection.
Select = Callable[[str, Rollout, np.ndarray], Selection]


def original_answers(questions: Sequence[str], answer_greedily: AnswerGreedily) -> list[str]:
    """Returns the target model's greedy answer to every forget question, without its thoughts."""
    answers = answer_greedily(questions)
    return [answer_of(answers[question]) for question in questions]


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
    """Samples K answers to each question that needs an answer, and stores the selected answers.

    A question needs an answer unless its stored answer has score 0.

    Args:
        store: the replacement answers, which this function changes in place.
        questions: ids of the questions in the next gradient steps.
        originals: original answer by question id.
        sample, score, select: functions of the types `Sample`, `Score` and `Select`.
        revise: function that changes selections before they are stored, for shared answers.

    Returns:
        The selections before `revise`, in the order of the questions.
    """

    def score_and_select(question: str, answers: Rollout) -> Selection:
        return select(question, answers, score(originals[question], answers.texts))

    # A question whose stored answer has score 0 is never sampled again.
    selections = sample(store.unreplaced(questions), score_and_select)
    for selection in revise(selections):
        # The new answer replaces the stored answer unless its score is worse.
        if selection.answer is not None:
            store.offer(selection.question, selection.answer, selection.score, selection.others)
    return selections


def step_rows(
    step: Step,
    store: ReplacementStore,
    ids: Sequence[str],
    encode: Callable[[int, int], Any],
    retain: Sequence[Any],
    max_train_score: float | None,
) -> dict[str, TermRows]:
    """Returns the rows of one gradient step of PMC.

    The loss of the step is CE(stored answers) + lambda · CE(retain pairs), where CE is the mean
    cross-entropy. The function `training.losses.pmc` applies the factor lambda.

    Args:
        step: indices of the forget questions and the retain rows in the step.
        store: the replacement answers.
        ids: ids of all forget questions.
        encode: function that maps a question index and a step index to the tokens of the question
            and its stored answer.
        retain: sequences of all retain rows.
        max_train_score: highest score with which a stored answer is trained on. The weight of an
            answer is 0 if its score is higher. None sets no limit.
    """
    weights = store.trainable([ids[i] for i in step.forget], max_train_score).tolist()
    replacements = [encode(i, step.index) for i in step.forget]
    pairs = [retain[i] for i in step.retain]
    return {"collapse": TermRows(replacements, weights), "retain": TermRows(pairs)}


def select_index(scores: np.ndarray, rule: str, tau: float, rng: np.random.Generator) -> int:
    """Selects one of K samples by the generalised Bradley-Terry model with reward r = 1 - score.

        P(k) = exp(r_k / tau) / sum_j exp(r_j / tau)          "bradley_terry"
        argmax r_k, the limit tau -> 0                        "best", the published choice

    Args:
        scores: finite scores of the samples, float [K] with K >= 1. Lower is better.
        rule: "best" selects the lowest score, and the first of equal scores. "bradley_terry" draws
            a sample.
        tau: temperature of "bradley_terry", at least 0. A temperature of 0 is the same as "best".
        rng: random generator. Only "bradley_terry" with tau > 0 uses it, for one draw.

    Returns:
        The index of the selected sample.
    """
    scores = np.asarray(scores, np.float64)
    if rule == "best" or tau == 0:
        return int(np.argmin(scores))
    # No exponential overflows, because r_k - r_best <= 0. With a tiny tau, every other weight is
    # exp(-inf) = 0.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((scores.min() - scores) / tau)
    return int(rng.choice(len(scores), p=weights / weights.sum()))
