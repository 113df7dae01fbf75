"""Settings of Partial Model Collapse (section `pmc`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    setting,
)

_NOT_BLANK = Check("text that is not blank", str.strip)
_PERCENT = Check("above 0 and at most 100", lambda value: 0 < value <= 100)


@dataclass(frozen=True)
class SamplingConfig(Section):
    """The sampling of answers to the forget questions.

    Fields:
        num_samples: number of answers (K) sampled for each question in one attempt; the openings
            of `abstain` and the invented names of `unseen` share this number equally, rounded up.
        max_attempts: maximum number of attempts for each question in a round; a round makes no
            further attempt for a question once the score of an answer is at most
            `selection.max_train_score`, or at most 0 if `selection.max_train_score` is None.
        temperature: softmax temperature; 0 selects greedy decoding, with or without decay; only
            `answer=own` reads this setting and the next four, because `abstain` and `unseen` sample
            at temperature 1 from all tokens.
        temperature_decay_tokens: number of tokens over which the temperature changes linearly to
            `final_temperature`, so that answers begin in many ways and continue fluently; 0 keeps
            the temperature constant.
        final_temperature: temperature after the decay.
        top_k: number of most likely tokens that are kept before top-p; 0 disables top-k.
        top_p: probability mass that nucleus sampling keeps; 1 disables nucleus sampling.
        max_new_tokens: maximum number of tokens in a sampled answer.
        batch_size: number of answers that are decoded at the same time, for all questions together.
        end_early: whether the decoding of a sample ends as soon as its beginning shows that no step
            would train on it (see docs/reference/methods.md); the selected answers are the same,
            but logged scores are lower bounds; None selects true on CPUs, where decoding takes
            longer than the check.

    Example:
        >>> pmc.SamplingConfig(num_samples=8, max_new_tokens=32)
        SamplingConfig(num_samples=8, max_new_tokens=32)
    """

    num_samples: int = setting(20, between(1, 10_000))
    max_attempts: int = setting(6, between(1, 1000))
    temperature: float = setting(5.0, at_least(0))
    temperature_decay_tokens: int = setting(2, between(0, 10**6))
    final_temperature: float = setting(1.0, above(0))
    top_k: int = setting(50, between(0, 10**6))
    top_p: float = setting(1.0, FRACTION)
    max_new_tokens: int = setting(96, between(1, 10**6))
    batch_size: int = setting(64, between(1, 65_536))
    end_early: bool | None = None


@dataclass(frozen=True)
class ScoreConfig(Section):
    """The score, which measures how similar a sample is to the original answer.

    Lower scores are better. docs/reference/scores.md describes the scores.

    Fields:
        name: name of the score, or the import path "package.module:function" of a function.
        weights: mapping from score names to weights; the weighted mean of these scores replaces
            `name`.
        threshold: largest score that counts as 0, unless the sample has a secret word (a
            word that occurs only in original answers to forget questions).
        threshold_from: source of the threshold of each question; retain selects the mean score of
            the answers to the most similar retain questions, and None selects `threshold`.
        min_len: number of words below which an answer is penalised; 0 disables the penalty.
        guard_empty: whether an empty answer gets the worst score instead of a perfect 0.
        forbidden: strings for which the score `forbidden` searches; the files of a run repeat this
            setting, so private strings belong in `forbidden_file`.
        forbidden_file: text file with one forbidden string in each line; None disables the file.
        forbidden_similarity: minimum similarity in percent at which a part of a sample matches a
            forbidden string.
        embedding: import path "package.module:function" of a function that maps texts to vectors,
            for the score `embedding`.

    Example:
        >>> pmc.ScoreConfig(threshold_from="retain")
        ScoreConfig(threshold_from='retain')
    """

    name: str = setting("rougeL_recall", NOT_EMPTY)
    weights: dict[str, float] = field(default_factory=dict, metadata={CHECK: above(0)})
    threshold: float = setting(0.1, BELOW_ONE)
    threshold_from: Literal["retain"] | None = None
    min_len: int = setting(0, between(0, 10**6))
    guard_empty: bool = True
    forbidden: tuple[str, ...] = setting((), _NOT_BLANK)
    forbidden_file: str | None = setting(None, NOT_EMPTY)
    forbidden_similarity: float = setting(90.0, _PERCENT)
    embedding: str | None = setting(None, NOT_EMPTY)

    def cross_faults(self) -> list[str]:
        """Returns a message for each input that the score lacks or does not read."""
        names = set(self.weights) or {self.name}
        strings = bool(self.forbidden or self.forbidden_file)
        inputs = {"forbidden": strings, "embedding": self.embedding is not None}
        private = "forbidden_file" if self.forbidden_file and not self.forbidden else "forbidden"
        unread = {"forbidden": private, "embedding": "embedding"}
        return [
            f"{name}: this setting is empty, but the score {name} needs it. Set pmc.score.{name}."
            if name in names
            else f"{unread[name]}: no score reads this setting. Add {name} to pmc.score.weights."
            for name, is_set in inputs.items()
            if is_set != (name in names)
        ]


@dataclass(frozen=True)
class SelectionConfig(Section):
    """The selection of the replacement answer to a question from its K samples.

    Only `answer=own` reads `rule`, `tau` and `prefer`.

    Fields:
        rule: selection rule (best | bradley_terry): best selects the sample with the lowest score,
            and bradley_terry draws a sample with probability proportional to exp(-score / tau).
        tau: temperature of bradley_terry, in units of the score.
        prefer: rule for samples with equal scores (first | least): first selects the first sample,
            and least selects the sample with the fewest secret words. Among such samples, it
            selects the shortest, and then the most likely sample.
        max_train_score: highest score of a replacement answer with which a question is trained on;
            None trains on every question that has a replacement answer.
        private_words: whether a sample may contain private words; a private word of a question
            occurs in another forget question, in an original answer or in what the model says about
            the subject, but neither in the question nor in the retain data, and is not common;
            false also excludes samples with a secret item of the original answer.
        share_answers: whether one answer may replace the answers to all questions for which its
            score is low enough, so that the model learns few sentences; shared answers need a
            larger `schedule.lambda_retain` (see docs/reference/methods.md).
        min_words: number of words below which a sample is incoherent, unless the original answer is
            as short; 0 disables the rule.
        max_repetition: share of repeated text above which a sample is incoherent, unless the
            original answer repeats as much; 1 disables the rule.
        max_perplexity: perplexity per token above which a sample is incoherent, computed by the
            sampled model at temperature 1; None disables the rule.
        extra_lines: whether a sample may have more lines than the original answer, such as the
            beginning of another message; false makes such a sample incoherent.

    Example:
        >>> pmc.SelectionConfig(share_answers=True)
        SelectionConfig(share_answers=true)
    """

    rule: Literal["best", "bradley_terry"] = "best"
    tau: float = setting(0.1, above(0))
    prefer: Literal["first", "least"] = "least"
    max_train_score: float | None = setting(0.0, between(0, 1))
    private_words: bool = False
    share_answers: bool = False
    min_words: int = setting(2, between(0, 10**6))
    max_repetition: float = setting(0.5, between(0, 1))
    max_perplexity: float | None = setting(20.0, at_least(1))
    extra_lines: bool = False


@dataclass(frozen=True)
class SubjectConfig(Section):
    """The subject of a forget question, which is the person or thing that the question is about.

    The column `subject` of `data.forget` and `names_file` name the subjects. Without both, the
    subjects are the names that occur in forget questions but not in the retain data.

    Fields:
        names_file: text file with one name in each line; None disables the file.
        invented: number of invented names that replace each name, for `answer=unseen` and for
            `unknown`.
        unknown: action for a question that the model answers in the same way, or as surely, for
            invented names, because it does not know the answer (train | skip); skip gives the
            question no weight.

    Example:
        >>> pmc.SubjectConfig(unknown="skip")
        SubjectConfig(unknown='skip')
    """

    names_file: str | None = setting(None, NOT_EMPTY)
    invented: int = setting(4, between(1, 100))
    unknown: Literal["train", "skip"] = "train"


@dataclass(frozen=True)
class AbstentionConfig(Section):
    """The ways in which the model is led to say that it does not know, for `answer=abstain`.

    Fields:
        languages: languages of the first words with which sampled answers begin (en | de | fr | es
            | ru | zh); an empty list disables them.
        openings_file: text file with one such beginning in each line, which replaces those of
            `languages`; None disables the file.
        system_prompt: system message under which further answers are sampled, for models with a
            chat template, in place of any other; training uses `model.system_prompt` or the system
            message of the row.

    Example:
        >>> pmc.AbstentionConfig(languages=("en", "de")).languages
        ('en', 'de')
    """

    languages: tuple[Literal["en", "de", "fr", "es", "ru", "zh"], ...] = ("en",)
    openings_file: str | None = setting(None, NOT_EMPTY)
    system_prompt: str | None = setting(None, NOT_EMPTY)

    def cross_faults(self) -> list[str]:
        if self.languages or self.openings_file or self.system_prompt:
            return []
        return [
            "languages: no openings and no system_prompt are set. Set one of languages, "
            "openings_file and system_prompt."
        ]


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """The number of steps, the number of rows and the weight of the retain term.

    Every method reads these settings, unless a field names exceptions.

    Fields:
        epochs: number of passes over the forget questions.
        steps_per_round: number of gradient steps in a round, which follow the sampling.
        retain_rows: number of retain rows for each forget row in a step; gradient_ascent has no
            retain rows.
        lambda_retain: weight of the retain term in the loss; gradient_ascent, retain_only and rmu
            do not read this setting.
        max_retain_loss: retain loss of a step (mean cross-entropy, see `train.loss_mean`) above
            which the run stops with an error; None disables the limit, and gradient_ascent and rmu
            need None.
        focus: share of the forget rows of a step that are replaced with questions whose greedy
            answers still tell the secrets of the original answers; the questions are asked again
            before each round after the warm-up; 0 asks none, and every epoch then visits all
            questions equally often; only PMC and PMC-alignment read this setting.

    Example:
        >>> pmc.ScheduleConfig(epochs=20, lambda_retain=15)
        ScheduleConfig(epochs=20, lambda_retain=15.0)
    """

    epochs: int = setting(12, between(0, 10_000))
    steps_per_round: int = setting(4, between(1, 10**6))
    retain_rows: int = setting(3, between(1, 1000))
    lambda_retain: float = setting(6.0, at_least(0))
    max_retain_loss: float | None = setting(None, above(0))
    focus: float = setting(0.0, between(0, 1))


@dataclass(frozen=True)
class AugmentationConfig(Section):
    """Changes to the prompts with which replacement answers are trained.

    Fields:
        question_word_dropout: probability of dropping each word of a forget question in half of the
            training rows, so that the model also gives the replacement answer to other wordings of
            the question.
        answer_prefix: probability of training the replacement answer after the first words of the
            original answer, which have no loss, so that an answer that starts like the original
            answer turns into the replacement answer (Qi et al., arXiv 2406.05946, section 3).

    Example:
        >>> pmc.AugmentationConfig(answer_prefix=0.5)
        AugmentationConfig(answer_prefix=0.5)
    """

    question_word_dropout: float = setting(0.2, BELOW_ONE)
    answer_prefix: float = setting(0.0, BELOW_ONE)


@dataclass(frozen=True)
class StopConfig(Section):
    """The conditions for early stopping, which are checked after each epoch, at the end of a round.

    Fields:
        enabled: whether the run ends early once every question has a replacement answer with score
            0, no answer to a forget question tells the secret of the original answer, and
            `max_retain_increase` is not exceeded; the answers are the greedy answer, the greedy
            answer that begins with `evaluate.leakage.prefill_text`, and `num_samples` samples.
        num_samples: number of answers sampled for each forget question at temperature 1; 0 samples
            none.
        max_retain_increase: maximum difference between the loss on a sample of retain rows and its
            value before unlearning, in mean cross-entropy per token.
        decay: length of the end of the run, as a share of the steps until the conditions hold, in
            which the learning rate decays linearly to 0; 0 ends the run at once.

    Example:
        >>> pmc.StopConfig(enabled=True)
        StopConfig(enabled=true)
    """

    enabled: bool = False
    num_samples: int = setting(8, between(0, 10_000))
    max_retain_increase: float = setting(0.1, at_least(0))
    decay: float = setting(0.2, between(0, 1))


@dataclass(frozen=True)
class PMCConfig(Section):
    """The settings of Partial Model Collapse (arXiv 2507.04219, section 5 and appendix).

    The defaults forget more at a lower cost than the published settings, which are in
    `configs/tofu_phi15.yaml` and `configs/tofu_llama32_3b.yaml`. docs/results/unlearning.md
    compares both.

    Fields:
        answer: kind of the replacement answers (own | abstain | unseen): own selects the sample
            least similar to the original answer, abstain selects samples that say that the model
            does not know, and unseen selects samples that the model gives for invented names.
        subject: the names that the questions are about.
        abstention: the sampling of answers that say that the model does not know.
        sampling, score, selection, schedule, augmentation, stop: sections for the parts of the
            algorithm.
        reward_samples: number of samples drawn for each forget question, before training and after
            each round, to estimate E[e^r] and Var[e^r] with r = 1 - score; 0 disables the estimate.

    Example:
        >>> pmc.PMCConfig(sampling=pmc.SamplingConfig(num_samples=8))
        PMCConfig(sampling=SamplingConfig(num_samples=8))
    """

    answer: Literal["own", "abstain", "unseen"] = "own"
    subject: SubjectConfig = field(default_factory=SubjectConfig)
    abstention: AbstentionConfig = field(default_factory=AbstentionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    reward_samples: int = setting(0, between(0, 10_000))
