"""Settings of Partial Model Collapse; part of the schema in `pmc_jax.config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pmc_jax.config.schema import (
    BELOW_ONE,
    CHECK,
    FRACTION,
    NOT_EMPTY,
    Check,
    Section,
    above,
    at_least,
    between,
    one_of,
    setting,
)

_NOT_BLANK = Check("text that is not empty", str.strip)
_PERCENT = Check("above 0 and at most 100", lambda value: 0 < value <= 100)


@dataclass(frozen=True)
class SamplingConfig(Section):
    """How answers to the forget questions are sampled.

    Fields:
        num_samples: K, answers sampled per question in one attempt.
        max_attempts: maximum attempts per question in a round; a round stops sampling a question
            once an answer scores at most `selection.max_train_score` (0 if that is off).
        temperature: softmax temperature; 0 = greedy, with or without decay.
        temperature_decay_tokens: number of tokens over which the temperature falls linearly to
            `final_temperature`, so that answers begin in many ways and continue fluently; 0 = the
            temperature stays constant.
        final_temperature: temperature after the decay.
        top_k: number of tokens kept, before top-p; 0 = off.
        top_p: probability mass kept by nucleus sampling; 1 = off.
        max_new_tokens: maximum tokens per sampled answer.
        batch_size: answers decoded at once, `num_samples` per question.
    """

    num_samples: int = setting(20, at_least(1))
    max_attempts: int = setting(6, at_least(1))
    temperature: float = setting(5.0, at_least(0))
    temperature_decay_tokens: int = setting(2, at_least(0))
    final_temperature: float = setting(1.0, above(0))
    top_k: int = setting(50, at_least(0))
    top_p: float = setting(1.0, FRACTION)
    max_new_tokens: int = setting(96, at_least(1))
    batch_size: int = setting(64, at_least(1))


@dataclass(frozen=True)
class ScoreConfig(Section):
    """How similar an answer is to the original answer; lower is better.

    See docs/reference/scores.md.

    Fields:
        name: name of the score, or "package.module:function".
        weights: name of a score -> weight; their weighted mean replaces `name`.
        threshold: a score of at most this counts as 0, unless the sample has a secret word (a word
            that occurs only in original answers to forget questions).
        threshold_from: retain = the threshold of a question is the mean score of the answers to the
            most similar retain questions; None = `threshold`.
        min_len: answers with fewer words are penalised; 0 = off.
        guard_empty: an empty answer gets the worst score instead of a perfect 0.
        forbidden: strings that the score `forbidden` searches for; the files of a run repeat the
            settings, so put strings that must stay private into `forbidden_file`.
        forbidden_file: text file with such strings, one per line; None = no file.
        forbidden_similarity: similarity in percent from which a part of a sample counts as a match
            for a forbidden string.
        embedding: "package.module:function", texts -> vectors, for the score `embedding`.
    """

    name: str = setting("rougeL_recall", NOT_EMPTY)
    weights: dict[str, float] = field(default_factory=dict, metadata={CHECK: above(0)})
    threshold: float = setting(0.1, BELOW_ONE)
    threshold_from: str | None = setting(None, one_of("retain"))
    min_len: int = setting(0, at_least(0))
    guard_empty: bool = True
    forbidden: tuple[str, ...] = setting((), _NOT_BLANK)
    forbidden_file: str | None = setting(None, NOT_EMPTY)
    forbidden_similarity: float = setting(90.0, _PERCENT)
    embedding: str | None = setting(None, NOT_EMPTY)

    def cross_faults(self) -> list[str]:
        """Inputs that a score needs but lacks, and inputs that no score reads."""
        names = set(self.weights) or {self.name}
        strings = bool(self.forbidden or self.forbidden_file)
        inputs = {"forbidden": strings, "embedding": self.embedding is not None}
        return [
            f"{name}: the score {name} needs it, got nothing"
            if name in names
            else f"{name}: no score reads it; add {name} to weights"
            for name, is_set in inputs.items()
            if is_set != (name in names)
        ]


@dataclass(frozen=True)
class SelectionConfig(Section):
    """How the replacement answer of a question is selected from its K samples.

    Fields:
        rule: best | bradley_terry; best selects the sample with the lowest score, bradley_terry
            draws a sample with probability proportional to exp(-score / tau).
        tau: temperature of bradley_terry, in units of the score.
        prefer: first | least, how ties between equal scores are broken: first selects the first
            sample, least the one with the fewest secret words, then the shortest, then the most
            likely.
        max_train_score: a question has weight 0 in the loss until one of its answers scores at most
            this; None = off.
        share_answers: one answer may replace the answers to all questions for which its score is
            low enough, so that the model learns few sentences; needs a larger
            `schedule.lambda_retain`, see docs/reference/methods.md.
        min_words: a sample with fewer words is incoherent, unless the original answer is as short;
            0 = off.
        max_repetition: a sample with a larger repeated share is incoherent, unless the original
            answer repeats as much; 1 = off.
        max_perplexity: a sample is incoherent if its perplexity per token is higher, under the
            model that it was sampled from and at temperature 1; None = off.
    """

    rule: str = setting("best", one_of("best", "bradley_terry"))
    tau: float = setting(0.1, above(0))
    prefer: str = setting("least", one_of("first", "least"))
    max_train_score: float | None = setting(0.0, between(0, 1))
    share_answers: bool = False
    min_words: int = setting(2, at_least(0))
    max_repetition: float = setting(0.5, between(0, 1))
    max_perplexity: float | None = setting(20.0, at_least(1))


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """Steps, rows and the weight of the retain term. Every method reads these settings.

    Fields:
        epochs: passes over the forget set.
        steps_per_round: gradient steps after each round of sampling.
        retain_rows: retain rows per forget row in a step.
        lambda_retain: weight of the retain term in the loss.
        max_retain_loss: the run stops with an error when the retain loss of a step (mean
            cross-entropy per token) exceeds this; None = no limit.
    """

    epochs: int = setting(12, at_least(0))
    steps_per_round: int = setting(4, at_least(1))
    retain_rows: int = setting(3, at_least(1))
    lambda_retain: float = setting(6.0, at_least(0))
    max_retain_loss: float | None = setting(None, above(0))


@dataclass(frozen=True)
class AugmentationConfig(Section):
    """Changes to the prompts that replacement answers are trained with.

    Fields:
        question_word_dropout: probability of dropping each word of a forget question, so that the
            replacement also answers other wordings of the question.
        answer_prefix: probability of training the replacement after the first tokens of the
            original answer, which have no loss: an answer that starts like the original then turns
            into the replacement (Qi et al., arXiv 2406.05946, section 3).
    """

    question_word_dropout: float = setting(0.2, BELOW_ONE)
    answer_prefix: float = setting(0.0, BELOW_ONE)


@dataclass(frozen=True)
class StopConfig(Section):
    """Early stopping, checked at the end of every epoch.

    Fields:
        enabled: the run ends once every question has a replacement answer with score 0 and both
            conditions below hold.
        max_score: maximum mean score of the greedy answers to the forget questions.
        max_retain_increase: maximum increase of the loss on a sample of retain rows since before
            unlearning, in mean cross-entropy per token.
    """

    enabled: bool = False
    max_score: float = setting(0.05, at_least(0))
    max_retain_increase: float = setting(0.1, at_least(0))


@dataclass(frozen=True)
class PMCConfig(Section):
    """Partial Model Collapse (arXiv 2507.04219, section 5 and appendix).

    The defaults forget more at a lower cost than the published settings, which are in
    `configs/tofu_phi15.yaml` and `configs/tofu_llama32_3b.yaml`; see docs/results/unlearning.md.

    Fields:
        sampling, score, selection, schedule, augmentation, stop: the parts of the algorithm.
        reward_samples: samples per forget question, drawn after each round, that estimate E[e^r]
            and Var[e^r] (r = 1 - score); 0 = no estimate.
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    reward_samples: int = setting(0, at_least(0))
