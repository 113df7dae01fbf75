"""Settings of Partial Model PMCSource; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pmc_jax.config.schema import Check, Section, above, at_least, between, one_of, setting

_TOP_P = Check("above 0 and at most 1", lambda value: 0 < value <= 1)
_FILLED = Check("text that is not empty", bool)
_BELOW_ONE = Check("from 0 to below 1", lambda value: 0 <= value < 1)
_PERCENT = Check("above 0 and at most 100", lambda value: 0 < value <= 100)


@dataclass(frozen=True)
class ScoresConfig(Section):
    """What counts as unlike the original answer, from where on it is enough, and what counts as an
    answer at all; see docs/scores.md.

    Fields:
        weights: name of a score -> weight, for their weighted mean in place of `pmc.score`.
        forbidden: strings that the score `forbidden` looks for in samples. They are settings, which
            a run's files repeat; what must stay private stands in `forbidden_file`.
        forbidden_file: text file with such strings, one a line; None = none.
        forbidden_similarity: percent, from which a part of a sample is like such a string.
        embedding: "package.module:function", texts -> vectors, for the score `embedding`.
        min_words: a sample of fewer words is incoherent, unless the original answer is as short;
            0 = off.
        max_repetition: share of a sample that may repeat itself, see `scores.repetition`, unless
            the original answer does too; 1 = off.
        max_perplexity: a sample with a higher perplexity a token, under the model that it was drawn
            from and at temperature 1, is incoherent; None = off.
        prefer: first | least, which of samples with equal scores is kept: the first, or the one
            with the fewest words that only original answers to forget questions have, of these the
            shortest, of these the likeliest.
        target: score from which down a question counts as resolved, unless the sample has a word
            that only original answers to forget questions have.
        target_from: retain = instead of `target` what answers to the retain questions most alike
            score, a question each; None = `target`.
    """

    weights: dict[str, float] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()
    forbidden_file: str | None = setting(None, _FILLED)
    forbidden_similarity: float = setting(90.0, _PERCENT)
    embedding: str | None = setting(None, _FILLED)
    min_words: int = setting(2, at_least(0))
    max_repetition: float = setting(0.5, between(0, 1))
    max_perplexity: float | None = setting(20.0, at_least(1))
    prefer: str = setting("least", one_of("first", "least"))
    target: float = setting(0.1, _BELOW_ONE)
    target_from: str | None = setting(None, one_of("retain"))

    def cross_faults(self) -> list[str]:
        faults = [
            f"weights.{name}: expected a number above 0, got {weight}"
            for name, weight in self.weights.items()
            if weight <= 0
        ]
        faults += [
            f"forbidden.{index}: expected text that is not empty"
            for index, text in enumerate(self.forbidden)
            if not text.strip()
        ]
        return faults


@dataclass(frozen=True)
class PMCConfig(Section):
    """Partial Model PMCSource itself (arXiv 2507.04219, section 5 and appendix).

    The defaults forget more at less cost than the published settings (docs/results.md), which stand
    in `configs/tofu_phi15.yaml` and `configs/tofu_llama32_3b.yaml`.

    Fields:
        num_samples: K, answers drawn a question.
        temperature: of the sampling; 0 = greedy, whatever cools.
        top_p: probability kept by nucleus sampling; 1 = off.
        top_k: tokens kept before top-p; 0 = off.
        cool_tokens: over so many tokens of an answer the temperature falls linearly to `cool_to`:
            it begins anywhere and goes on in the model's own words; 0 = it stays.
        cool_to: temperature from then on.
        max_new_tokens: tokens of a sampled answer at most.
        lambda_retain: weight of the retain term of the loss.
        min_len: words below which an answer is penalised; 0 = off.
        epochs: passes over the forget set.
        selection: best | bradley_terry, how one of K is chosen.
        tau: temperature of bradley_terry, in units of the score.
        guard_empty: an empty answer scores worst instead of a perfect 0.
        max_retain_loss: the run stops when the retain rows of a step lose more, in nats a token;
            None = no limit.
        max_train_score: a question has weight 0 until a sample scores at most this; None = off. At
            0 the first answer that is trained on is kept.
        question_dropout: probability with which each word of a forget question is left out when its
            answer is trained on, so that it is the answer to the question in other words too.
        recovery: probability with which an answer that is trained on follows the beginning of the
            original one, of any length, which itself is not trained on: an answer that has begun,
            or was made to begin, leads over to it (Qi et al., arXiv 2406.05946, section 3).
        steps_per_round: gradient steps under one snapshot of sampled answers.
        retain_rows: retain rows a forget row in every step.
        ramp_steps: steps in which the weight of everything but the retain term rises to its full.
        stop: the run ends, after an epoch, once every question is resolved, greedy answers score
            at most `stop_score` on the mean, and the loss on a sample of retain rows is at most
            `stop_retain` nats a token above what it was.
        stop_score, stop_retain: of `stop`.
        attempts: times at most that a round samples a question, until an answer scores at most
            `max_train_score` (0 where that is off), before any step is taken.
        share_answers: an answer to one forget question is given to all for which it is good enough
            (`max_train_score`), so that few answers, or one, are learned for all of them; needs a
            larger `lambda_retain`, see docs/methods.md.
        patience: times that a question is sampled as usual; one that is unresolved after them
            gets `stubborn_samples` at `stubborn_temperature` from then on. 0 = always as usual.
        stubborn_samples, stubborn_temperature: of `patience`.
        probe_samples: samples of every forget question after every round that E[e^r] and Var[e^r]
            are measured of, r = 1 - score, drawn as those of a round; 0 = none.
        sample_batch_size: answers decoded at once, num_samples of them a question.
        score: name of the score, see docs/scores.md.
        scores: more of the score: weighted means, forbidden strings, coherence, target.
    """

    num_samples: int = setting(20, at_least(1))
    temperature: float = setting(5.0, at_least(0))
    top_p: float = setting(1.0, _TOP_P)
    top_k: int = setting(50, at_least(0))
    cool_tokens: int = setting(2, at_least(0))
    cool_to: float = setting(1.0, above(0))
    max_new_tokens: int = setting(96, at_least(1))
    lambda_retain: float = setting(6.0, at_least(0))
    min_len: int = setting(0, at_least(0))
    epochs: int = setting(12, at_least(0))
    selection: str = setting("best", one_of("best", "bradley_terry"))
    tau: float = setting(0.1, above(0))
    guard_empty: bool = True
    max_retain_loss: float | None = setting(None, above(0))
    max_train_score: float | None = setting(0.0, between(0, 1))
    question_dropout: float = setting(0.2, _BELOW_ONE)
    recovery: float = setting(0.0, _BELOW_ONE)
    steps_per_round: int = setting(4, at_least(1))
    retain_rows: int = setting(3, at_least(1))
    ramp_steps: int = setting(0, at_least(0))
    stop: bool = False
    stop_score: float = setting(0.05, at_least(0))
    stop_retain: float = setting(0.1, at_least(0))
    attempts: int = setting(6, at_least(1))
    share_answers: bool = False
    patience: int = setting(0, at_least(0))
    stubborn_samples: int = setting(16, at_least(1))
    stubborn_temperature: float = setting(1.5, above(0))
    probe_samples: int = setting(0, at_least(0))
    sample_batch_size: int = setting(64, at_least(1))
    score: str = setting("rougeL_recall", _FILLED)
    scores: ScoresConfig = field(default_factory=ScoresConfig)

    def cross_faults(self) -> list[str]:
        """What a score needs and does not get, or gets and nothing reads."""
        names, scores = set(self.scores.weights) or {self.score}, self.scores
        strings = bool(scores.forbidden or scores.forbidden_file)
        given = {"forbidden": strings, "embedding": scores.embedding is not None}
        return [
            f"scores.{name}: needed by the score {name}, got nothing"
            if name in names
            else f"scores.{name}: no score reads it; add {name} to scores.weights"
            for name, is_given in given.items()
            if is_given != (name in names)
        ]
