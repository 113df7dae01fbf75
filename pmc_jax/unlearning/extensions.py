"""Four functions that extend the paper's algorithm. Each has its own setting:

    run_attempts            pmc.sampling.max_attempts
    share_answers           pmc.selection.share_answers
    question_word_dropout   pmc.augmentation.question_word_dropout
    sample_answer_prefix    pmc.augmentation.answer_prefix

Score thresholds are another extension. The module `pmc_jax.scoring.threshold` defines them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmc_jax.data.conversation import change_last
from pmc_jax.data.spelling import blank_separated
from pmc_jax.scoring.preference import count_secret_words
from pmc_jax.training.order import Stream, stream_rng
from pmc_jax.unlearning.pmc import Selection
from pmc_jax.unlearning.store import ReplacementStore

# `share_answers` tries at most `_MAX_STORED` stored answers and `_MAX_NEW` new answers.
_MAX_STORED, _MAX_NEW = 16, 256

# `share_answers` considers only new answers that fit at least this fraction of the number of
# questions that the best new answer fits. It chooses the most likely of these answers.
_NEARLY = 0.9

_WHOLE = 0.5  # share of the rows in which `question_word_dropout` drops no word


def run_attempts(
    store: ReplacementStore,
    questions: Sequence[str],
    run_round: Callable[[Sequence[str], int], list[Selection]],
    *,
    max_attempts: int,
    good_enough: float,
) -> list[Selection]:
    """Makes attempts for each question until its stored answer is good enough.

    Args:
        store: the replacement answers.
        questions: ids of the questions in the first attempt.
        run_round: function that maps question ids and the index of the attempt to selections.
        max_attempts: maximum number of attempts.
        good_enough: highest score with which a question needs no further attempt.

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
    stored: Iterable[str],
    new: Iterable[tuple[str, float]],
    *,
    score: Callable[[Sequence[str], Sequence[str]], np.ndarray],
    good_enough: float,
    secrets: frozenset[str],
) -> dict[str, tuple[str, float]]:
    """Chooses a small number of answers so that each of them serves many questions.

    An answer fits a question if its score is at most `good_enough`. Stored answers are shared
    first, in order of their frequency. Then new answers are shared, one after the other, until no
    answer fits any of the remaining questions. Each time, the function considers the answers
    that fit the most or almost the most questions, and chooses the most likely of them.

    Args:
        questions: ids of the questions that need an answer.
        stored: stored answers that are good enough for their own questions, with repetitions.
        new: new answers that may be shared, with their mean negative log-probability per token.
        score: function that maps N question ids and M answers to the scores of these answers to
            each question, float64 [N, M].
        good_enough: highest score with which an answer fits a question.
        secrets: secret words from `preference.secret_words`. A stored answer that contains such a
            word is not shared.

    Returns:
        The shared answer and its score by question id. Questions that no answer fits are missing.
    """
    used = [text for text, _ in Counter(stored).most_common(_MAX_STORED)]
    secret = count_secret_words(used, secrets)
    used = [text for text, count in zip(used, secret, strict=True) if not count]
    by_likelihood = sorted(dict(new).items(), key=lambda answer: (answer[1], len(answer[0])))
    step = 1 + len(by_likelihood) // _MAX_NEW
    texts = [*used, *(text for text, _ in by_likelihood[::step])]
    if not (questions and texts):
        return {}
    scores = score(questions, texts)
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


def question_word_dropout(
    question: str,
    dropout: float,
    seed: int,
    step: int,
    index: int,
    *,
    subjects: Sequence[str] = (),
) -> str:
    """Drops words of a question at random, in half of the steps. Earlier turns are unchanged.

    A question that is always changed would keep its original answer in the words of the data.

    Args:
        question: the question, whose words are separated by white space.
        dropout: probability with which each word is dropped.
        seed, step, index: seed of the run, index of the gradient step and index of the question.
            Each is at least 0.
        subjects: texts within the question whose words are kept, because without them the question
            could be about anybody.

    Returns:
        The remaining words, or the unchanged question if no word remains.
    """
    rng = stream_rng(seed, Stream.WORD_DROPOUT, step, index)
    if rng.random() < _WHOLE:
        return question

    def drop(text: str) -> str:
        words = list(re.finditer(r"\S+", text))
        named = {
            position
            for name in subjects
            for found in re.finditer(re.escape(name), text)
            for position in range(*found.span())
        }
        kept = [
            word[0]
            for word, draw in zip(words, rng.random(len(words)), strict=True)
            if draw >= dropout or not named.isdisjoint(range(*word.span()))
        ]
        return " ".join(kept) or text

    return change_last(question, drop)


def sample_answer_prefix(answer: str, probability: float, seed: int, step: int, index: int) -> str:
    """Samples a prefix of an answer.

    Args:
        answer: the answer. White space separates its words; in scripts without spaces, each
            character is a word.
        probability: probability with which the prefix is not empty.
        seed, step, index: seed of the run, index of the gradient step and index of the question.
            Each is at least 0.

    Returns:
        The answer up to the start of one of its words but the first, all with the same probability.
        The prefix is empty with probability 1 - `probability`, or if the answer has fewer than two
        words.
    """
    rng = stream_rng(seed, Stream.ANSWER_PREFIX, step, index)
    if rng.random() >= probability:
        return ""
    starts = [word.start() for word in blank_separated(answer)[1:]]
    return answer[: rng.choice(starts)] if starts else ""
