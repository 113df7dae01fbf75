"""Settings of evaluation (section `evaluate`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from pmc_jax.config.paths import output_setting
from pmc_jax.config.schema import (
    BELOW_ONE,
    FRACTION,
    NOT_EMPTY,
    Check,
    Section,
    above,
    at_least,
    between,
    setting,
)

MeasureName: TypeAlias = Literal[
    "honesty",
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
    "indistinguishable",
]
MEASURE_NAMES: tuple[MeasureName, ...] = get_args(MeasureName)
UTILITY_SETS = ("retain", "world_facts", "real_authors")
BestRule: TypeAlias = Literal["unlearn_quality", "utility", "mean", "harmonic_mean", "min"]
Quantisation: TypeAlias = Literal["int8", "int4", "nf4"]
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
Level: TypeAlias = Literal["said", "sampled", "elicited"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class LeakageConfig(Section):
    """The samples in which the measures `sampling` and `prefill` search for the true answers.

    Fields:
        num_samples: number of answers sampled for each question.
        temperature: sampling temperature.
        top_p: probability mass that nucleus sampling keeps; 1 disables nucleus sampling.
        prefill_text: text with which every answer starts in the measure `prefill`.
        threshold: minimum ROUGE-L recall of the true answer for a sample to count as a leak.
        confidence: confidence level of the upper bounds on the leakage.

    Example:
        >>> pmc.LeakageConfig(num_samples=16, threshold=0.3)
        LeakageConfig(num_samples=16, threshold=0.3)
    """

    num_samples: int = setting(100, between(2, 10_000))
    temperature: float = setting(1.0, above(0))
    top_p: float = setting(1.0, FRACTION)
    prefill_text: str = setting("The answer is:", NOT_EMPTY)
    threshold: float = setting(0.5, FRACTION)
    confidence: float = setting(0.99, Check("at least 0.5 and below 1", lambda v: 0.5 <= v < 1))


@dataclass(frozen=True)
class CorpusConfig(Section):
    """Text unrelated to the data, which the measures `side_effects` and `perplexity` read.

    Fields:
        path: text file; None selects the first pages of a novel, which the package includes.
        chunks: maximum number of chunks of the text that are read, from its start.
        chunk_tokens: number of tokens in a chunk.

    Example:
        >>> pmc.CorpusConfig(path="text.txt")
        CorpusConfig(path='text.txt')
    """

    path: str | None = None
    chunks: int = setting(100, between(1, 10**6))
    chunk_tokens: int = setting(128, between(2, 10**6))


@dataclass(frozen=True)
class RelearnConfig(Section):
    """The relearning attack, which fine-tunes a copy of each measured model.

    The training rows are outside the forget set. Leakage is measured once, after the last step.

    Fields:
        steps: number of training steps.
        rows: number of training rows, which are the first rows of `data.evaluate.relearn`, or of
            `data.retain` if `data.evaluate.relearn` is not given.
        batch_size: number of rows per step.
        learning_rate: constant learning rate.

    Example:
        >>> pmc.RelearnConfig(steps=20)
        RelearnConfig(steps=20)
    """

    steps: int = setting(10, between(1, 10**6))
    rows: int = setting(8, between(1, 10**6))
    batch_size: int = setting(8, between(1, 65_536))
    learning_rate: float = setting(5e-5, above(0))


@dataclass(frozen=True)
class LevelsConfig(Section):
    """The levels at which `pmc unlearn` measures whether each forget question is forgotten.

    Fields:
        measured: levels that are measured: said, sampled or elicited.
        num_samples: number of sampled answers per question at the level `sampled`.
        temperature: sampling temperature at the level `sampled`.
        max_score: ROUGE-L recall of the original or true answer, without common words and words of
            the question, up to which an answer does not count as a repetition; the limit is higher
            for a question if answers to similar retain questions have a higher recall.
        words: YAML file with the number words, month names and common words of another language;
            None recognises only the English ones.

    Example:
        >>> pmc.LevelsConfig(measured=("said", "sampled"))
        LevelsConfig(measured=a list)
    """

    measured: tuple[Level, ...] = LEVELS
    num_samples: int = setting(16, between(1, 10_000))
    temperature: float = setting(1.0, above(0))
    max_score: float = setting(0.3, BELOW_ONE)
    words: str | None = None


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """The evaluation of a model: its measures, its schedule and its reference model.

    Fields:
        max_new_tokens: maximum number of tokens in an answer.
        batch_size: number of answers that are decoded at the same time.
        every: number of steps between two evaluations, each at the end of a round; 0 evaluates only
            before and after unlearning.
        at_seconds: times of further evaluations, each at the end of a round, in seconds of
            sampling, scoring and training.
        keep_best: number that selects the best measured step, whose weights `pmc unlearn` exports:
            unlearn_quality, utility, or the mean, the harmonic_mean or the min of both; None
            exports the last step. Otherwise, the true answers influence which step is exported.
        measures: names of the measures that are computed in addition to unlearn quality and
            utility, or all; `pmc unlearn` computes these measures at its end for the target model,
            the unlearned model and the reference model.
        dir: folder in which `pmc evaluate CONFIG` stores intermediate results, from which it
            resumes; None stores nothing.
        reference: folder of the reference model, which never saw the forget rows and which
            `pmc finetune` makes from the retain rows; None disables comparisons with a reference.
        make_reference: whether `pmc unlearn` makes the reference model, from the rows of
            `data.retain` with the settings of `finetune`, and keeps it in `output.dir`/reference,
            where the next run with the same settings reuses it; without effect if `reference` is
            set.
        never_saw: folders of at least five models that were trained like the reference model, but
            with other seeds; the measure `indistinguishable` compares each model with them.
        quantisation: formats to which the measure `quantised` quantises the weights: int8, int4 or
            nf4.
        levels: settings that decide which forget questions are forgotten.
        leakage: settings of the measures `sampling` and `prefill`.
        corpus: text unrelated to the data.
        relearn: settings of the relearning attack.

    Example:
        >>> pmc.EvaluateConfig(measures=("sampling", "prefill")).wanted
        ('sampling', 'prefill')
    """

    max_new_tokens: int = setting(96, between(1, 10**6))
    batch_size: int = setting(64, between(1, 65_536))
    every: int = setting(0, at_least(0))
    at_seconds: tuple[float, ...] = setting((), above(0))
    keep_best: BestRule | None = None
    measures: tuple[Literal["all"] | MeasureName, ...] = ()
    dir: str | None = output_setting(None)
    reference: str | None = None
    make_reference: bool = False
    never_saw: tuple[str, ...] = ()
    quantisation: tuple[Quantisation, ...] = QUANTISATIONS
    levels: LevelsConfig = field(default_factory=LevelsConfig)
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    relearn: RelearnConfig = field(default_factory=RelearnConfig)

    def cross_faults(self) -> list[str]:
        faults = []
        if len(set(self.never_saw)) < len(self.never_saw):
            faults.append("never_saw: the list names a folder twice. Remove one entry.")
        if self.keep_best is not None and not (self.every or self.at_seconds):
            faults.append(
                "keep_best: without evaluate.every or evaluate.at_seconds, only the last step is "
                "measured. Set evaluate.every to a number of steps."
            )
        return faults

    def faults_of_sets(self, given: Collection[str]) -> list[str]:
        """Returns a message for each evaluation set that `keep_best` needs and `given` lacks."""
        rule = self.keep_best
        needed = ["forget", "forget_paraphrased"] if rule not in (None, "utility") else []
        if rule not in (None, "unlearn_quality") and not {*given} & {*UTILITY_SETS}:
            needed.append("retain")
        return [
            f"data.evaluate.{name}: evaluate.keep_best={rule} needs these rows. Set "
            f"data.evaluate.{name}.path=FILE."
            for name in needed
            if name not in given
        ]

    @property
    def makes_reference(self) -> bool:
        """Whether a run trains the reference model itself."""
        return self.make_reference and self.reference is None

    @property
    def computes_measures(self) -> bool:
        """Whether a run computes more than unlearn quality and utility of its own models."""
        return bool(self.wanted or self.reference or self.makes_reference)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the measures to compute, in the order of `MEASURE_NAMES`."""
        return tuple(m for m in MEASURE_NAMES if m in self.measures or "all" in self.measures)
