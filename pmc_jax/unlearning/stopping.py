"""Tests whether unlearning is complete: the questions are forgotten and the model has recovered.

The tests read no true answers to the forget questions.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.data.thoughts import answer_of
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.scoring.secret import find_secrets
from pmc_jax.training.likelihood import token_scores
from pmc_jax.training.order import Stream, stream_rng
from pmc_jax.training.step_config import learning_rate

_ROWS = 64


class RetainLoss:
    """Retain loss before unlearning, with which the retain loss of later weights is compared.

    Args:
        generator: the model before unlearning.
        sequences: sequences of all retain rows, of which at most `_ROWS` are used.
        seed: seed for the choice of these rows.
    """

    def __init__(self, generator: TextGenerator, sequences: Sequence[TokenSequence], seed: int):
        count = min(_ROWS, len(sequences))
        rows = stream_rng(seed, Stream.RETAIN_LOSS).permutation(len(sequences))[:count]
        self._generator, self._sequences = generator, [sequences[i] for i in rows]
        self.before = self.loss(generator.lm.model)

    def loss(self, model: Decoder) -> float:
        """Computes the mean cross-entropy of the answer tokens under a model."""
        lm, dtype = self._generator.lm, self._generator.dtype
        scores = token_scores(model, lm.config, lm.layout, self._sequences, dtype=dtype)
        return -float(np.concatenate([one.logp for one in scores]).mean(dtype=np.float64))

    def has_recovered(self, model: Decoder, margin: float) -> bool:
        """Returns whether the loss is at most `margin` above the loss before unlearning."""
        return self.loss(model) <= self.before + margin


class ForgetTest:
    """Asks the forget questions again and tests whether an answer tells a secret.

    The secrets are those of the original answers (`scoring.secret`).

    Args:
        generator: the model before unlearning.
        forget: the forget questions.
        retain: the retain pairs, whose words are not secret.
        originals: original answer to each forget question.
        config: settings of the run. Only `pmc`, `evaluate` and `seed` are read.
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        retain: RetainSet,
        originals: Sequence[str],
        config: Config,
    ):
        self._generator, self._questions, self._config = generator, forget.questions, config
        levels = config.evaluate.levels
        self._secrets = find_secrets(forget.questions, originals, retain, levels)

    def still_answered(self, model: Decoder, rows: Sequence[int]) -> list[int]:
        """Returns which of the questions in `rows` have a greedy answer that tells its secret."""
        answers = self._answers(self._generator.snapshot(model), rows, GREEDY, 1, "")
        return [i for i, texts in zip(rows, answers, strict=True) if self._tells(i, texts)]

    def passes(self, model: Decoder, rows: Sequence[int]) -> bool:
        """Returns whether no answer to the questions in `rows` tells the secret of its question.

        The answers are the greedy answer, the greedy answer after the prefill and
        `pmc.stop.num_samples` samples. The same samples are drawn in every call.
        """
        weights = self._generator.snapshot(model)
        prefill = self._config.evaluate.leakage.prefill_text
        count = self._config.pmc.stop.num_samples
        for sampler, num_samples, prefix in (
            (GREEDY, 1, ""),
            (GREEDY, 1, prefill),
            (Sampler(1.0), count, ""),
        ):
            if num_samples:
                answers = self._answers(weights, rows, sampler, num_samples, prefix)
                if any(self._tells(i, texts) for i, texts in zip(rows, answers, strict=True)):
                    return False
        return True

    def _answers(
        self,
        weights: SamplingWeights,
        rows: Sequence[int],
        sampler: Sampler,
        num_samples: int,
        prefix: str,
    ) -> list[list[str]]:
        sampling = self._config.pmc.sampling
        # An answer with its first tokens is no longer than a sampled answer, so it fits.
        given = len(self._generator.encoder.answer_prefix(prefix))
        return self._generator.sample(
            *(weights, [self._questions[i] for i in rows], sampler),
            num_samples=num_samples,
            max_new_tokens=max(1, sampling.max_new_tokens - given),
            batch_size=sampling.batch_size,
            seed=self._config.seed,
            answer_prefix=prefix,
        )

    def _tells(self, row: int, texts: Sequence[str]) -> bool:
        return any(self._secrets[row].is_told_by(answer_of(text)) for text in texts)


class EarlyStop:
    """Learning rate of each step, and the step after which a run ends.

    With `pmc.stop.enabled`, the run is tested after each round in which an epoch ends. When it is
    complete, the learning rate decays linearly to 0 and the run ends.

    Args:
        config: settings of the run. Only `pmc` and `train` are read.
        questions: number of forget questions.
        total_steps: number of steps of a run that does not end early.

    Attributes:
        decay: first step of the decay, and number of steps of the run. It is None before the decay.
    """

    def __init__(self, config: Config, questions: int, total_steps: int):
        self._config, self._questions, self._total_steps = config, questions, total_steps
        self.decay: tuple[int, int] | None = None

    @property
    def steps(self) -> int:
        """Number of steps of the run, as far as it is known."""
        return self._total_steps if self.decay is None else self.decay[1]

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        train = self._config.train
        if self.decay is None:
            return learning_rate(train, self._total_steps, step)
        begin, end = self.decay
        return learning_rate(train, self._total_steps, begin) * (end - step) / (end - begin)

    def update(self, done: int, is_complete: Callable[[], bool]) -> bool:
        """Tests the run where this is due, and returns whether it ends early after `done` steps.

        Args:
            done: number of finished steps.
            is_complete: function that returns whether the conditions in `pmc.stop` hold.
        """
        if self.decay is None and self._is_due(done) and is_complete():
            steps = math.ceil(self._config.pmc.stop.decay * done)
            self.decay = (done, min(done + steps, self._total_steps))
        return self.decay is not None and done == self.decay[1]

    def _is_due(self, done: int) -> bool:
        size = self._config.pmc.schedule.steps_per_round
        if not self._config.pmc.stop.enabled or done % size:
            return False
        epochs, before = (
            steps * self._config.train.step_rows // self._questions for steps in (done, done - size)
        )
        return epochs > before
