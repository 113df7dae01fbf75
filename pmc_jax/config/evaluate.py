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

MEASURE_NAMES = (
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
    """Samples that are searched for the true answers (measures `sampling` and `prefill`).

    Fields:
        num_samples: answers sampled per question.
        temperature: sampling temperature.
        top_p: probability mass kept by nucleus sampling; 1 = off.
        prefill_text: text that every answer starts with in the measure `prefill`.
        threshold: ROUGE-L recall of the true answer at or above which a sample counts as a leak.
        confidence: confidence level of the upper bounds.
    """

    num_samples: int = setting(100, at_least(2))
    temperature: float = setting(1.0, above(0))
    top_p: float = setting(1.0, FRACTION)
    prefill_text: str = setting("The answer is:", NOT_EMPTY)
    threshold: float = setting(0.5, FRACTION)
    confidence: float = setting(0.99, Check("from 0.5 to below 1", lambda v: 0.5 <= v < 1))


@dataclass(frozen=True)
class CorpusConfig(Section):
    """Text unrelated to the data, for side effects and perplexity.

    Fields:
        path: text file; None = the first pages of a novel, included in the package.
        chunks: maximum number of chunks to read.
        chunk_tokens: tokens per chunk.
    """

    path: str | None = None
    chunks: int = setting(100, at_least(1))
    chunk_tokens: int = setting(128, at_least(2))


@dataclass(frozen=True)
class RelearnConfig(Section):
    """The relearning attack: fine-tunes the unlearned model on a few rows outside the forget set.

    Fields:
        steps: gradient steps; leakage is measured after the last one.
        rows: number of training rows, the first of data.evaluate.relearn, or of data.retain if that
            is not given.
        batch_size: rows per step.
        learning_rate: constant learning rate.
    """

    steps: int = setting(10, at_least(1))
    rows: int = setting(8, at_least(1))
    batch_size: int = setting(8, at_least(1))
    learning_rate: float = setting(5e-5, above(0))


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """Which measures are computed for a model, and how.

    Fields:
        max_new_tokens: maximum tokens per answer.
        batch_size: answers decoded at once.
        every: unlearning steps between two evaluations; 0 = only before and after unlearning.
        at_seconds: times in seconds of unlearning (sampling, scoring and training) at which the
            model is also evaluated.
        measures: measures to compute in addition to unlearn quality and utility, or all;
            `pmc unlearn` computes them at its end for the models before and after unlearning and
            for the reference.
        dir: folder where `pmc evaluate CONFIG` stores its results and resumes from them; None =
            nothing is stored.
        reference: folder of a model that never saw the forget rows, made by `pmc finetune` on
            retain rows, to compare with; None = no reference.
        quantisation: formats that the weights are quantised to: int8, int4, nf4.
        leakage: settings of the measures `sampling` and `prefill`.
        corpus: text unrelated to the data.
        relearn: the relearning attack.
    """

    max_new_tokens: int = setting(96, at_least(1))
    batch_size: int = setting(64, at_least(1))
    every: int = setting(0, at_least(0))
    at_seconds: tuple[float, ...] = setting((), above(0))
    measures: tuple[str, ...] = setting((), one_of("all", *MEASURE_NAMES))
    dir: str | None = None
    reference: str | None = None
    quantisation: tuple[str, ...] = setting(QUANTISATIONS, one_of(*QUANTISATIONS))
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    relearn: RelearnConfig = field(default_factory=RelearnConfig)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the measures to compute, in the order of `MEASURE_NAMES`."""
        return tuple(m for m in MEASURE_NAMES if m in self.measures or "all" in self.measures)
