"""Score thresholds: the expected score of a model that never saw the data.

Sampling for a question stops at its threshold. A model that never saw the data still says "was born
in the town of ...". Unlearning below that level forgets more than was asked for. Thresholds are
computed from questions, original answers and retain pairs.
"""

import functools
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np
from rapidfuzz import fuzz, process

from pmc_jax.scoring.base import Score
from pmc_jax.scoring.preference import count_secret_words
from pmc_jax.scoring.words import any_of, spelled_words


def with_threshold(
    score: Score, thresholds: float | Mapping[str, float], secrets: frozenset[str] = frozenset()
) -> Score:
    """Returns a score that is rescaled above a threshold t: max(0, score - t) / (1 - t).

    The result is 0 up to the threshold, and 1 stays 1. Every sample with a score up to t is good
    enough, so PMC does rejection sampling from the model's own distribution, conditioned on score
    <= t. A threshold allows words that any model would say, but a sample with a secret word keeps
    its score.

    Args:
        score: the score to rescale.
        thresholds: one number from 0 to 1 for all questions, or a mapping from original answers to
            such numbers. An original answer that is not in the mapping has threshold 0. With a
            threshold of 1, every score up to 1 counts as 0.
        secrets: secret words, see `preference.secret_words`.
    """

    @functools.wraps(score)
    def above_threshold(original: str, samples: Sequence[str]) -> np.ndarray:
        scores = np.asarray(score(original, samples), np.float64)
        by_original = isinstance(thresholds, Mapping)
        threshold = thresholds.get(original, 0.0) if by_original else thresholds
        if threshold <= 0:
            return scores
        excused = np.maximum(0.0, scores - threshold) / (1 - threshold if threshold < 1 else 1.0)
        return np.where(count_secret_words(samples, secrets) > 0, scores, excused)

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

    The estimate is the mean score of the answers to the most similar retain questions. Similarity
    is the ROUGE-L F-measure over words, and the first of equally similar questions is taken. These
    answers are about other subjects, so they share form with the original answer but no secrets.
    Names in the forget question are put into these answers, see `with_swapped_names`.

    Args:
        score: the score of the run, without a threshold or penalties.
        originals: N original answers.
        questions: N forget questions.
        retain_questions, retain_answers: M retain pairs. A pair is left out for a forget question
            if both questions are equal except for case and punctuation.
        neighbours: number of retain pairs for each forget question, at least 1.

    Returns:
        float64 [N] in [0, 1]; 0 for questions without a retain pair.
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
        answer: an answer to `question`.
        to: the other question.
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

    If several questions share an original answer, the answer gets their lowest threshold.
    """
    thresholds: dict[str, float] = {}
    for original, level in zip(originals, levels, strict=True):
        thresholds[original] = min(float(level), thresholds.get(original, 1.0))
    return thresholds


def _numbered(text: str, number: dict[str, int]) -> list[int]:
    """Converts the case-folded words of a text to numbers.

    rapidfuzz compares hashes, and small integers hash to themselves.
    """
    words = [word[0] for word in spelled_words(text.casefold())]
    return [number.setdefault(word, len(number)) for word in words]
