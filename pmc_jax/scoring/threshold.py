"""Score thresholds: the expected score of a model that never saw the data.

PMC stops sampling for a question once it has stored an answer whose score is not above the
threshold. Even a model that never saw the data says "was born in the town of ...", so its expected
score is above 0. A lower score means that the model forgets more than was asked for. This module
estimates thresholds from questions, original answers and retain pairs.
"""

import functools
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np
from rapidfuzz import fuzz, process

from pmc_jax.data.spelling import any_of, spelled_words
from pmc_jax.scoring.base import Score, lower_bound
from pmc_jax.scoring.preference import count_secret_words


def with_threshold(
    score: Score, thresholds: float | Mapping[str, float], secrets: frozenset[str] = frozenset()
) -> Score:
    """Returns a score that is rescaled above a threshold t: max(0, score - t) / (1 - t).

    Scores up to t become 0, and scores from 1 stay as they are. PMC therefore accepts every sample
    with a score up to t, which is rejection sampling from the model's distribution given
    score <= t. A threshold allows words that any model would say, but a sample with a secret word
    keeps its score.

    Args:
        score: the score to rescale.
        thresholds: one number from 0 to 1 for all questions, or a mapping from original answers to
            such numbers. An original answer that is not in the mapping has threshold 0. With a
            threshold of 1, every score up to 1 counts as 0.
        secrets: secret words, which `preference.secret_words` returns.
    """

    @functools.wraps(score)
    def above_threshold(original: str, samples: Sequence[str]) -> np.ndarray:
        scores = np.asarray(score(original, samples), np.float64)
        by_original = isinstance(thresholds, Mapping)
        threshold = thresholds.get(original, 0.0) if by_original else thresholds
        if threshold <= 0:
            return scores
        excused = np.maximum(0.0, scores - threshold) / (1 - threshold if threshold < 1 else 1.0)
        excused = np.minimum(excused, scores)
        return np.where(count_secret_words(samples, secrets) > 0, scores, excused)

    if (bound := lower_bound(score)) is not None:
        above_threshold.lower_bound = with_threshold(bound, thresholds, secrets)
    return above_threshold


def never_saw_scores(
    score: Score,
    originals: Sequence[str],
    questions: Sequence[str],
    retain_questions: Sequence[str],
    retain_answers: Sequence[str],
    *,
    neighbours: int = 3,
) -> np.ndarray:
    """Estimates how a model that never saw the data would score on each forget question.

    The estimate is the mean score of the answers to the most similar retain questions. These
    answers are about other subjects, so they share the form of the original answer but no secrets.
    `with_swapped_names` puts the names of the forget question into these answers. The similarity of
    two questions is the ROUGE-L F-measure over words, and ties are broken by order.

    Args:
        score: the score of the run, without a threshold or penalties.
        originals: original answer to each of the N forget questions.
        questions: the N forget questions.
        retain_questions, retain_answers: the retain pairs. A pair is left out for a forget question
            if its question has the same words, apart from case.
        neighbours: number of retain pairs for each forget question, at least 1.

    Returns:
        The estimated scores from 0 to 1, float64 [N]. A question without a retain pair has 0.
    """
    assert len(originals) == len(questions) and len(retain_questions) == len(retain_answers)
    assert neighbours >= 1
    levels = np.zeros(len(originals))
    if not len(originals) or not len(retain_questions):
        return levels
    number: dict[str, int] = {}
    forget_words, retain_words = (
        [_numbered(text, number) for text in texts] for texts in (questions, retain_questions)
    )
    # `fuzz.ratio` is twice the LCS divided by the sum of the lengths, which is ROUGE-L's F-measure.
    alike = process.cdist(forget_words, retain_words, scorer=fuzz.ratio, dtype=np.float32)
    order = np.argsort(-alike, axis=1, kind="stable")
    for row, original in enumerate(originals):
        others = [i for i in order[row].tolist() if retain_words[i] != forget_words[row]]
        answers = [
            with_swapped_names(retain_answers[i], retain_questions[i], questions[row])
            for i in others[:neighbours]
        ]
        if answers:
            levels[row] = np.mean(score(original, answers))
    return levels.clip(0, 1)


def with_swapped_names(answer: str, question: str, to: str) -> str:
    """Replaces the names of one question with the names of another question in an answer.

    A name is a word that differs between the questions and is not lower case. In a question about
    Jane Roe, the answer "Bo Low was born in Oslo" becomes "Jane Roe was born in Oslo".

    Args:
        answer: answer to `question`.
        question: question whose names are replaced.
        to: question whose names are put in.
    """
    old, new = spelled_words(question), spelled_words(to)
    swaps: dict[str, str] = {}
    texts = [word[0] for word in old], [word[0] for word in new]
    for kind, i, i_end, j, j_end in SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
        if kind != "replace":
            continue
        runs = [(old[i:i_end], new[j:j_end])]
        spaced = any(map(str.isspace, question[old[i].start() : old[i_end - 1].end()]))
        # The answer may contain only one of the words, e.g. a surname.
        if spaced and i_end - i == j_end - j:
            runs = [([a], [b]) for a, b in zip(*runs[0], strict=True)]
        for a, b in runs:
            if not any(word[0].islower() for word in a):
                swaps[question[a[0].start() : a[-1].end()]] = to[b[0].start() : b[-1].end()]
    if not swaps:
        return answer
    return any_of(list(swaps)).sub(lambda match: swaps[match[0]], answer)


def by_original(originals: Sequence[str], levels: Sequence[float]) -> dict[str, float]:
    """Maps each original answer to its threshold.

    If an original answer occurs several times, it gets the lowest of its thresholds.

    Args:
        originals: original answer to each question.
        levels: threshold of each question.
    """
    thresholds: dict[str, float] = {}
    for original, level in zip(originals, levels, strict=True):
        thresholds[original] = min(float(level), thresholds.get(original, 1.0))
    return thresholds


def _numbered(text: str, number: dict[str, int]) -> list[int]:
    """Converts the case-folded words of a text to numbers, and adds new words to `number`.

    rapidfuzz compares hashes, and small integers hash to themselves, so the comparison is exact.
    """
    words = [word[0] for word in spelled_words(text.casefold())]
    return [number.setdefault(word, len(number)) for word in words]
