"""Which sample a question keeps: score, coherence and preference of a run, put together."""

from collections.abc import Callable, Sequence

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
)


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
