"""Which sample a question keeps: score, coherence and preference of a run, put together."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pmc_jax.data.records import RetainSet
from pmc_jax.pmc_config import PMCConfig
from pmc_jax.sampling.engine import Samples
from pmc_jax.unlearning import pmc as algorithm
from pmc_jax.unlearning.scores import (
    Score,
    coherent,
    preference,
    run_score,
    score_batch,
    secret_words,
    told,
)

# Of the answers that questions share so many, the most used, are tried for others.
_SHARED = 16


class Judge:
    """Scores samples by what the original answers say.

    Args:
        pmc: settings.
        questions: N forget questions.
        originals: the untouched model's greedy answers to them.
        retain: what may be said; its words are no secret, and `target_from` looks at it.
        encode: text -> token ids.
        seed: of the run.
        score: overrides `pmc.score`.

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
        self, numbers: Sequence[int], kept: Iterable[str], new: Iterable[str], enough: float
    ) -> dict[int, tuple[str, float]]:
        """One answer for as many questions as it is good enough for.

        Preferred is what most questions have already, then what is good enough for most of these,
        then the shortest; never an answer with a secret word of any question.

        Args:
            numbers: of the questions that are given an answer.
            kept: the answers that other questions keep.
            new: answers to these questions.
            enough: score up to which an answer is good enough.

        Returns:
            Question -> answer and score, of the questions for which one is good enough.
        """
        uses = Counter(kept)
        texts = list(dict.fromkeys([*(text for text, _ in uses.most_common(_SHARED)), *new]))
        if not (numbers and texts):
            return {}
        originals = [self._originals[number] for number in numbers]
        scores = score_batch(self._score, originals, [texts] * len(numbers))
        scores[:, told(texts, self._secrets) > 0] = np.inf
        fits = scores <= enough
        order = np.lexsort((list(map(len, texts)), -fits.sum(0), [-uses[t] for t in texts]))
        first = {i: order[fits[i, order].argmax()] for i in np.flatnonzero(fits.any(1))}
        return {numbers[i]: (texts[t], float(scores[i, t])) for i, t in first.items()}

    def choose(
        self,
        number: int,
        answers: Sequence[str],
        samples: Samples,
        place: int,
        draw: tuple[int, ...],
    ) -> tuple[int, float, list[float]]:
        """One of K samples of a question.

        Args:
            number: of the question.
            answers: texts of the samples.
            samples, place: where their lengths and likelihoods stand.
            draw: number of the step and, beyond the first, of the attempt.

        Returns:
            Its index, its score, and the scores of all K; see `pmc.choose`.
        """
        pmc, original = self._pmc, self._originals[number]
        length, nats = samples.length[place], samples.nats[place]
        least = pmc.scores.prefer == "least"
        (chosen,) = algorithm.choose(
            [original],
            [answers],
            self._score,
            pmc.selection,
            pmc.tau,
            algorithm.selection_rng(self._seed, draw[0], number, *draw[1:]),
            guard_empty=pmc.guard_empty,
            coherent=[coherent(original, answers, pmc.scores, nats=nats)],
            order=[preference(answers, length, nats, self._secrets)] if least else None,
        )
        return chosen
