"""Settings of evaluation; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pmc_jax.config.schema import (
    FRACTION,
    NOT_EMPTY,
    Check,
    Section,
    above,
    at_least,
    one_of,
    setting,
)

MEASURES = (
    "tofu",
    "memorisation",
    "membership",
    "multiple_choice",
    "sampling",
    "prefill",
    "side_effects",
    "perplexity",
    "prompt_attacks",
    "quantised",
    "relearned",
)
QUANTISATIONS = ("int8", "int4", "nf4")


@dataclass(frozen=True)
class LeakageConfig(Section):
    """Samples that are searched for the true answers.

    Fields:
        num_samples: answers sampled to each question.
        temperature, top_p: temperature and nucleus of the sampling.
        prefill_text: text that answers are made to begin with, for the measure `prefill`.
        threshold: ROUGE-L recall of a true answer from which a sample counts as a leak.
        confidence: confidence of the upper bounds.
    """

    num_samples: int = setting(100, at_least(2))
    temperature: float = setting(1.0, above(0))
    top_p: float = setting(1.0, FRACTION)
    prefill_text: str = setting("The answer is:", NOT_EMPTY)
    threshold: float = setting(0.5, FRACTION)
    confidence: float = setting(0.99, Check("from 0.5 to below 1", lambda v: 0.5 <= v < 1))


@dataclass(frozen=True)
class CorpusConfig(Section):
    """Text that has nothing to do with the data, for side effects and perplexity.

    Fields:
        path: text file; None = the first pages of a novel, which the package holds.
        chunks: largest number of pieces that are read.
        chunk_tokens: tokens of each piece.
    """

    path: str | None = None
    chunks: int = setting(100, at_least(1))
    chunk_tokens: int = setting(128, at_least(2))


@dataclass(frozen=True)
class RelearnConfig(Section):
    """Fine-tuning of the unlearned model on a few rows that are not the forgotten ones.

    Fields:
        steps: gradient steps; leakage is measured after the last.
        rows: rows that are trained on, the first ones of data.evaluate.relearn, or of data.retain
            where that is not given.
        batch_size: rows a step.
        learning_rate: learning rate, which is constant.
    """

    steps: int = setting(10, at_least(1))
    rows: int = setting(8, at_least(1))
    batch_size: int = setting(8, at_least(1))
    learning_rate: float = setting(5e-5, above(0))


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """What is measured of a model, and how.

    Fields:
        max_new_tokens: tokens of an answer at most.
        batch_size: answers decoded at once.
        every: steps of unlearning between two evaluations; 0 = before and after it only.
        at_seconds: seconds of unlearning (sampling, scoring and training) after which models are
            evaluated too.
        measures: names of `MEASURES` that are computed beside unlearn quality and utility, or all.
            `pmc unlearn` computes them at its end, for the model before it, the model after it and
            the reference.
        dir: folder where `pmc evaluate CONFIG` stores rows and resumes from them; None = none.
        reference: folder of a model that never saw the forget rows, made by `pmc finetune` on
            retain rows; its numbers stand beside the others. None = there is none.
        quantisation: formats that weights are rounded to: int8, int4, nf4.
        leakage: the measures of sampling and prefill.
        corpus: text that has nothing to do with the data.
        relearn: the attack by fine-tuning.
    """

    max_new_tokens: int = setting(96, at_least(1))
    batch_size: int = setting(64, at_least(1))
    every: int = setting(0, at_least(0))
    at_seconds: tuple[float, ...] = setting((), above(0))
    measures: tuple[str, ...] = setting((), one_of("all", *MEASURES))
    dir: str | None = None
    reference: str | None = None
    quantisation: tuple[str, ...] = setting(QUANTISATIONS, one_of(*QUANTISATIONS))
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    relearn: RelearnConfig = field(default_factory=RelearnConfig)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The measures by name, in the order of `MEASURES`."""
        return tuple(m for m in MEASURES if m in self.measures or "all" in self.measures)
