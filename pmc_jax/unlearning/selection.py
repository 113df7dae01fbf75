"""Which sample a question keeps: score, coherence and preference of a run, put together."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pmc_jax.config.pmc import PMCConfig
from pmc_jax.data.records import RetainSet
from pmc_jax.sampling.engine import Samples
from pmc_jax.scoring import (
    Score,
    coherent,
    is_empty,
    preference,
    run_score,
    score_batch,
    secret_words,
    told,
)
from pmc_jax.unlearning import pmc as algorithm

# How many of the answers that questions have, and of new ones, are tried for others.
_KEPT, _NEW = 16, 256

# A new answer may be good enough for so much of what the best one is if it is likelier.
_NEARLY = 0.9


class Selection(NamedTuple):
    """One of K samples of a question.

    Attributes:
        answer: its text.
        score: its score.
        scores: those of all K.
        others: where answers are shared, the samples that any question may be given, and the mean
            negative log-probability of their tokens.
    """

    answer: str
    score: float
    scores: list[float]
    others: list[tuple[str, float]]


class Selector:
    """Scores samples by what the original answers say.

    Args:
        pmc: settings.
        questions: N forget questions.
        originals: the untouched model's greedy answers to them.
        retain: what may be said; its words are no secret, and `target_from` looks at it.
        encode: text -> token ids.
        seed: of the run.
        score: overrides `pmc.score.name`.

    Raises:
        UserError: an unknown score.
    """

    def __init__(
        self,
        pmc: PMCConfig,
        questions: Sequence[str],
        originals: Sequence[str],
        retain: RetainSet,
        *,
        encode: Callable[[str], Sequence[int]],
        seed: int,
        score: str | Score | None,
    ):
        self._pmc, self._originals, self._seed = pmc, list(originals), seed
        known = [*questions, *retain.questions, *retain.answers]
        self._secrets = secret_words(originals, known)
        self._score = run_score(
            pmc,
            originals=originals,
            questions=questions,
            retain_questions=retain.questions,
            retain_answers=retain.answers,
            encode=encode,
            score=score,
            secrets=self._secrets,
        )

    def scores(self, answers: Sequence[Sequence[str]]) -> np.ndarray:
        """Scores of M answers to each question, float64 [N,M]."""
        return score_batch(self._score, self._originals, answers)

    def share(
        self,
        numbers: Sequence[int],
        kept: Iterable[str],
        new: Iterable[tuple[str, float]],
        enough: float,
    ) -> dict[int, tuple[str, float]]:
        """Few answers, each for as many questions as it is good enough for.

        What most questions have already goes first. Of new answers the likeliest is taken of those
        that are good enough for about as many questions as any, until none is for one more.

        Args:
            numbers: of the questions that are given an answer.
            kept: the answers that questions have.
            new: `others` of the choices for any questions.
            enough: score up to which an answer is good enough.

        Returns:
            Question -> answer and score, of the questions for which one is good enough.
        """
        used = [text for text, _ in Counter(kept).most_common(_KEPT)]
        used = [text for text, n in zip(used, told(used, self._secrets), strict=True) if not n]
        fresh = sorted(dict(new).items(), key=lambda answer: (answer[1], len(answer[0])))
        texts = [*used, *(text for text, _ in fresh[:: 1 + len(fresh) // _NEW])]
        if not (numbers and texts):
            return {}
        originals = [self._originals[number] for number in numbers]
        scores = score_batch(self._score, originals, [texts] * len(numbers))
        fits, given = scores <= enough, {}
        while fits.any():
            count = fits.sum(0)
            again = count[: len(used)] > 0
            best = again if again.any() else count >= _NEARLY * count.max()
            taken = int(best.argmax())
            for i in np.flatnonzero(fits[:, taken]):
                given[numbers[i]] = texts[taken], float(scores[i, taken])
                fits[i] = False
        return given

    def choose(
        self,
        number: int,
        answers: Sequence[str],
        samples: Samples,
        place: int,
        draw: tuple[int, ...],
    ) -> Selection:
        """One of K samples of a question, see `pmc.choose`.

        Any question may be given those that are coherent, have no secret word of any question and
        are no questions themselves.

        Args:
            number: of the question.
            answers: texts of the samples.
            samples, place: where their lengths and likelihoods stand.
            draw: number of the step and, beyond the first, of the attempt.
        """
        pmc, original = self._pmc, self._originals[number]
        length, mean_nll = samples.length[place], samples.mean_nll[place]
        fine = coherent(original, answers, pmc.selection, mean_nll=mean_nll)
        secrets = told(answers, self._secrets)
        least = pmc.selection.prefer == "least"
        ((k, score, scores),) = algorithm.choose(
            [original],
            [answers],
            self._score,
            pmc.selection.rule,
            pmc.selection.tau,
            algorithm.selection_rng(self._seed, draw[0], number, *draw[1:]),
            guard_empty=pmc.score.guard_empty,
            coherent=[fine],
            order=[preference(secrets, length, mean_nll)] if least else None,
        )
        others = []
        if pmc.selection.share_answers:
            speaks = [not (is_empty(a) or a.rstrip().endswith(("?", "？"))) for a in answers]
            useful = np.flatnonzero(fine & (secrets == 0) & speaks)
            others = [(answers[i], float(mean_nll[i])) for i in useful]
        return Selection(answers[k], score, scores, others)
