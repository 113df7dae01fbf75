"""Score thresholds: the expected score of a model that never saw the data; sampling of a question
stops there.

A model that never saw the data still says "was born in the town of ...". Collapsing below that
level forgets more than was asked for. Thresholds are computed from questions, original answers and
retain pairs.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import numpy as np
from rapidfuzz import fuzz, process

from pmc_jax.scoring.base import Score
from pmc_jax.scoring.preference import count_secret_words

_WORD = re.compile(r"\w+")


def with_threshold(
    score: Score, thresholds: float | Mapping[str, float], secrets: frozenset[str] = frozenset()
) -> Score:
    """max(0, score - threshold) / (1 - threshold): 0 up to the threshold, 1 stays 1.

    Every sample up to the threshold is good enough: rejection sampling from the model's own
    distribution, conditioned on score <= threshold. A threshold excuses what anybody would say; a
    sample with a secret word keeps its score.

    Args:
        score: of the original answer and its samples.
        thresholds: from 0 to 1, one for all or by original answer (0 for those that are not in
            it). With a threshold of 1 every score up to 1 counts as 0.
        secrets: see `preference.secret_words`.
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
    """Estimates what a model that never saw the data would score on each forget question.

    To each forget question the retain questions most like it are found, by ROUGE-L F over words
    (the first of equals); the mean score of their answers is the level. They speak of somebody or
    something else, so whatever they share with the original answer is form and not secret. What
    the question itself gives away, such as a name, is put into them: see `with_swapped_names`.

    Args:
        score: the one in use, without threshold and penalties.
        originals: N original answers.
        questions: N forget questions.
        retain_questions, retain_answers: M pairs. A pair whose question is one of the forget
            questions, but for case and punctuation, is left out for that question.
        neighbours: pairs a question, at least 1.

    Returns:
        float64 [N] in [0, 1]; 0 where no pair is left.
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
    # Of two sequences `fuzz.ratio` is twice their LCS over their summed length: ROUGE-L's F.
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
    """An answer to one question, in the terms of another one.

    Where the two differ, words of the question that are not lower case are replaced by their
    counterparts wherever they stand in the answer: "Bo Low was born in Oslo", asked of Jane Roe, is
    "Jane Roe was born in Oslo".
    """
    old, new = _WORD.findall(question), _WORD.findall(to)
    swaps: dict[str, str] = {}
    for kind, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "replace":
            continue
        runs = [(old[i:i_end], new[j:j_end])]
        if i_end - i == j_end - j:  # also where only one of the words is used, such as a surname
            runs = [([a], [b]) for a, b in zip(*runs[0], strict=True)]
        swaps |= {" ".join(a): " ".join(b) for a, b in runs if not any(map(str.islower, a))}
    if not swaps:
        return answer
    names = "|".join(map(re.escape, sorted(swaps, key=len, reverse=True)))
    return re.sub(rf"\b(?:{names})\b", lambda match: swaps[match[0]], answer)


def by_original(originals: Sequence[str], levels: Sequence[float]) -> dict[str, float]:
    """Original answer -> threshold; the lowest where questions share an original answer."""
    thresholds: dict[str, float] = {}
    for original, level in zip(originals, levels, strict=True):
        thresholds[original] = min(float(level), thresholds.get(original, 1.0))
    return thresholds


def _numbered(text: str, number: dict[str, int]) -> list[int]:
    """A number for each word, case ignored: rapidfuzz compares hashes, those of small integers are
    exact.
    """
    return [number.setdefault(word, len(number)) for word in _WORD.findall(text.casefold())]
