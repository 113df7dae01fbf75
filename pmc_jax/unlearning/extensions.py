"""What this library adds to the paper's algorithm, each a function that its setting turns on.

    run_attempts            pmc.sampling.max_attempts      several attempts in a round
    share_answers           pmc.selection.share_answers    few answers, each for many questions
    question_word_dropout   pmc.augmentation.question_word_dropout
    sample_answer_prefix    pmc.augmentation.answer_prefix

Score thresholds, the other addition, are in `scoring.threshold`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmc_jax.scoring.base import Score, score_batch
from pmc_jax.scoring.preference import count_secret_words
from pmc_jax.training.order import Stream, stream_rng
from pmc_jax.unlearning.pmc import Selection
from pmc_jax.unlearning.store import ReplacementStore

# `share_answers` tries this many stored answers and this many new ones.
_MAX_STORED, _MAX_NEW = 16, 256

# A more likely new answer is preferred if it fits this share of what the best one fits.
_NEARLY = 0.9


def run_attempts(
    store: ReplacementStore,
    questions: Sequence[str],
    run_round: Callable[[Sequence[str], int], list[Selection]],
    *,
    max_attempts: int,
    good_enough: float,
) -> list[Selection]:
    """Repeats a round for the questions whose stored answer is not good enough yet.

    Args:
        store: the replacement answers.
        questions: ids of the questions that are sampled first.
        run_round: (ids, number of the attempt) -> selections.
        max_attempts: rounds at most.
        good_enough: score up to which a question is sampled no more.

    Returns:
        The selections of all attempts.
    """
    selections: list[Selection] = []
    for attempt in range(max_attempts):
        if not questions:
            break
        selections += run_round(questions, attempt)
        questions = [id_ for id_ in questions if store.score(id_) > good_enough]
    return selections


def share_answers(
    questions: Sequence[str],
    originals: Sequence[str],
    stored: Iterable[str],
    new: Iterable[tuple[str, float]],
    *,
    score: Score,
    good_enough: float,
    secrets: frozenset[str],
) -> dict[str, tuple[str, float]]:
    """Few answers, each for as many questions as its score is good enough for.

    The stored answer that most questions have comes first. Of the new answers, the most likely one
    is taken among those that fit about as many questions as any, until none fits one more.

    Args:
        questions: ids of the questions that get an answer.
        originals: their original answers.
        stored: answers that questions have, as often as they are stored.
        new: answers that may be shared, with their mean negative log-probability per token.
        score: the score of the run.
        good_enough: highest score of an answer that fits a question.
        secrets: no stored answer with such a word is shared, see `preference.secret_words`.

    Returns:
        id -> answer and score, for the questions that an answer fits.
    """
    used = [text for text, _ in Counter(stored).most_common(_MAX_STORED)]
    secret = count_secret_words(used, secrets)
    used = [text for text, count in zip(used, secret, strict=True) if not count]
    by_likelihood = sorted(dict(new).items(), key=lambda answer: (answer[1], len(answer[0])))
    step = 1 + len(by_likelihood) // _MAX_NEW
    texts = [*used, *(text for text, _ in by_likelihood[::step])]
    if not (questions and texts):
        return {}
    scores = score_batch(score, originals, [texts] * len(questions))
    fits, shared = scores <= good_enough, {}
    while fits.any():
        count = fits.sum(0)
        reusable = count[: len(used)] > 0
        best = reusable if reusable.any() else count >= _NEARLY * count.max()
        chosen = int(best.argmax())
        for row in np.flatnonzero(fits[:, chosen]):
            shared[questions[row]] = texts[chosen], float(scores[row, chosen])
            fits[row] = False
    return shared


def question_word_dropout(question: str, dropout: float, seed: int, step: int, index: int) -> str:
    """The question with each word left out at random; the whole question if no word would remain.

    Args:
        question: words are separated by white space.
        dropout: probability with which a word is left out.
        seed, step, index: of the run, of the gradient step, of the question; all 0 or more.
    """
    words = question.split()
    keep = stream_rng(seed, Stream.WORD_DROPOUT, step, index).random(len(words)) >= dropout
    return " ".join(itertools.compress(words, keep)) or question


def sample_answer_prefix(
    answer: Sequence[int], probability: float, seed: int, step: int, index: int
) -> list[int]:
    """With a probability, the first tokens of an answer, 1 to all but one (uniform); else nothing.

    Args:
        answer: token ids.
        probability: of a prefix that is not empty.
        seed, step, index: as for `question_word_dropout`.
    """
    rng = stream_rng(seed, Stream.ANSWER_PREFIX, step, index)
    if len(answer) < 2 or rng.random() >= probability:
        return []
    return list(answer[: rng.integers(1, len(answer))])
