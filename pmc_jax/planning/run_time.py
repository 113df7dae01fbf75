"""Predicts the time of a run from timed calls of its programs on this device.

The number of attempts until a question has a replacement answer, and the length of the answers
after fine-tuning, are not known before the run. Each part of the time therefore has a range.
"""

import dataclasses
import statistics
from collections.abc import Sequence

from pmc_jax.config.run import Config

# Without a target model, the share of questions with a replacement answer is not known. The
# quickstart needs about this number of attempts for each question.
_USUAL_ATTEMPTS = 2.0
_STEP_SPREAD = 1.15  # Steps have rows of other lengths than the timed ones.
_SPREAD = 1.25  # Answers of a run differ in length from the timed ones by this factor.


@dataclasses.dataclass(frozen=True)
class AnswerTime:
    """Time of an answer that is decoded together with others.

    Attributes:
        seconds: seconds for each answer, without compilation.
        tokens: mean number of tokens in the timed answers.
    """

    seconds: float
    tokens: float

    def of(self, tokens: float) -> float:
        """Returns the seconds of an answer with this number of tokens."""
        return self.seconds * tokens / max(self.tokens, 1.0)


@dataclasses.dataclass(frozen=True)
class Timings:
    """Measured times of the programs of a run, in seconds without compilation.

    Attributes:
        finetune, train: seconds of each timed step. A tuple is empty if the run has no such step.
        greedy: time of a greedy answer.
        sampled: time of a sampled answer, or None if the method does not sample.
        replaced: share of questions that have a replacement answer after one attempt, or None if
            the model that was sampled is not the target model.
        knowledge_seconds: seconds of the work before the first round.
        answer_tokens: expected number of tokens in an answer during the run.
        compile_seconds: seconds in which the timed programs were compiled or read from the cache.
    """

    finetune: Sequence[float]
    train: Sequence[float]
    greedy: AnswerTime
    sampled: AnswerTime | None
    replaced: float | None
    knowledge_seconds: float
    answer_tokens: float
    compile_seconds: float


@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of steps and questions of a run.

    Attributes:
        finetune_steps, steps, rounds: numbers of gradient steps and rounds; 0 fine-tuning steps if
            the run makes no target model.
        forget: number of forget questions.
        round_questions: number of different forget questions in a round.
        evaluated: number of rows in the evaluation sets that unlearn quality and utility read.
        own: number of retain questions that the model answers itself.
    """

    finetune_steps: int
    steps: int
    rounds: int
    forget: int
    round_questions: int
    evaluated: int
    own: int = 0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Predicted seconds of one part of a run, with a range in which they probably lie."""

    name: str
    seconds: float
    low: float
    high: float


def run_time(config: Config, counts: Counts, timings: Timings, load: float) -> list[Estimate]:
    """Predicts the seconds of each part of a run.

    Args:
        load: seconds in which the model was loaded.
    """
    return [
        _steps("fine-tuning", counts.finetune_steps, timings.finetune),
        _sampling(config, counts, timings),
        _steps("training", counts.steps, timings.train),
        _evaluation(config, counts, timings),
        # A later run reads most programs from the cache, but it also needs further ones.
        _range("compilation", timings.compile_seconds, 0.2, 1.5),
        _range("loading and writing", 2 * load, 0.5, 2.0),
    ]


def total(parts: Sequence[Estimate]) -> Estimate:
    """Returns the sum of the parts."""
    sums = (sum(getattr(p, name) for p in parts) for name in ("seconds", "low", "high"))
    return Estimate("total", *sums)


def sampled_questions(config: Config, counts: Counts) -> tuple[int, int]:
    """Returns the lowest and the highest number of attempts for all questions together."""
    asked = min(counts.forget, counts.round_questions * counts.rounds)
    visits = counts.round_questions * counts.rounds
    return asked, visits * config.pmc.sampling.max_attempts


def _range(name: str, seconds: float, low: float, high: float) -> Estimate:
    return Estimate(name, seconds, low * seconds, high * seconds)


def _steps(name: str, count: int, seconds: Sequence[float]) -> Estimate:
    if not count or not seconds:
        return Estimate(name, 0.0, 0.0, 0.0)
    low, high = min(seconds) / _STEP_SPREAD, max(seconds) * _STEP_SPREAD
    return Estimate(name, *(count * s for s in (statistics.mean(seconds), low, high)))


def _sampling(config: Config, counts: Counts, timings: Timings) -> Estimate:
    if timings.sampled is None:
        return Estimate("sampling", 0.0, 0.0, 0.0)
    tokens = timings.sampled.tokens if timings.replaced is not None else timings.answer_tokens
    attempt = config.pmc.sampling.num_samples * timings.sampled.of(tokens)
    low, high = sampled_questions(config, counts)
    attempts = _USUAL_ATTEMPTS
    if timings.replaced is not None:
        attempts = 1 / max(timings.replaced, low / max(high, 1))
    before = timings.knowledge_seconds
    expected = min(high, low * attempts)
    return Estimate(
        "sampling",
        before + expected * attempt,
        before + low * attempt / _SPREAD,
        before + high * attempt * _SPREAD,
    )


def _evaluation(config: Config, counts: Counts, timings: Timings) -> Estimate:
    """Predicts the time of the evaluations that `pmc unlearn` makes itself.

    The measures in `evaluate.measures` are not included.
    """
    levels, every = config.evaluate.levels, config.evaluate.every
    between = (counts.steps - 1) // every if every else 0
    models = 2 + config.evaluate.makes_reference  # before, after and perhaps the reference
    greedy = 2 * counts.forget + (models + between) * counts.evaluated + counts.own
    greedy += 3 * counts.forget * ("elicited" in levels.measured)
    seconds = greedy * timings.greedy.of(timings.answer_tokens)
    if "sampled" in levels.measured:
        one = timings.sampled or timings.greedy
        seconds += counts.forget * levels.num_samples * one.of(timings.answer_tokens)
    return _range("evaluation", seconds, 1 / _SPREAD, 2 * _SPREAD)
