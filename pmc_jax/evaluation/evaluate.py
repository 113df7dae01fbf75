"""Greedy answers to evaluation questions, and the numbers that follow from them.

The only module beside the data readers that sees true forget answers; nothing here trains.
"""

from collections.abc import Mapping, Sequence

from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.config.run import EvaluateConfig
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation.quality import summarise
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.snapshot import SamplingWeights


def answer_all(
    generator: TextGenerator,
    weights: SamplingWeights,
    questions: Sequence[str],
    settings: EvaluateConfig,
    *,
    label: str,
    watch: Stopwatch,
    bars: bool,
) -> dict[str, str]:
    """Greedy answers, each different question asked once.

    Args:
        label: of the progress bar.

    Returns:
        Question -> answer.
    """
    distinct = list(dict.fromkeys(questions))
    bar = progress(len(distinct), label, "question", enabled=bars)
    with bar, watch.stage("evaluate"):
        answers = generator.greedy(
            weights,
            distinct,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            progress=bar.update,
        )
    return dict(zip(distinct, answers, strict=True))


def measure(sets: Sequence[EvalSet], answers: Mapping[str, str]) -> dict:
    """`summarise` for a model that gave `answers` (question -> answer) to the questions of
    `sets`.
    """
    return summarise(
        {s.name: [answers[q] for q in s.questions] for s in sets},
        {s.name: s.answers for s in sets},
    )
