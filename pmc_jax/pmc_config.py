"""Settings of Partial Model Collapse; part of the schema in `pmc_jax.config`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.schema import Check, Section, above, at_least, between, one_of, setting

_TOP_P = Check("above 0 and at most 1", lambda value: 0 < value <= 1)


@dataclass(frozen=True)
class PMCConfig(Section):
    """Partial Model Collapse itself (arXiv 2507.04219, section 5 and appendix).

    Fields:
        num_samples: K, answers drawn a question.
        temperature: of the sampling; 0 = greedy.
        top_p: probability kept by nucleus sampling; 1 = off.
        top_k: tokens kept before top-p; 0 = off.
        max_new_tokens: tokens of a sampled answer at most.
        lambda_retain: weight of the retain term of the loss.
        min_len: words below which an answer is penalised; 0 = off.
        epochs: passes over the forget set.
        selection: best | bradley_terry, how one of K is chosen.
        tau: temperature of bradley_terry, in units of the score.
        guard_empty: an empty answer scores worst instead of a perfect 0.
        max_retain_loss: the run stops when the retain rows of a step lose more, in nats a token;
            None = no limit.
        max_train_score: a question has weight 0 until a sample scores below this; None = off.
        steps_per_round: gradient steps under one snapshot of sampled answers.
        retain_rows: retain rows a forget row in every step.
        ramp_steps: steps in which the weight of everything but the retain term rises to its full.
        stop: the run ends, after an epoch, once every question is resolved, greedy answers score
            at most `stop_score` on the mean, and the loss on a sample of retain rows is at most
            `stop_retain` nats a token above what it was.
        stop_score, stop_retain: of `stop`.
        sample_batch_size: answers decoded at once, num_samples of them a question.
        score: name of the score, see `pmc_jax.unlearning.scores`.
    """

    num_samples: int = setting(5, at_least(1))
    temperature: float = setting(1.0, at_least(0))
    top_p: float = setting(0.95, _TOP_P)
    top_k: int = setting(0, at_least(0))
    max_new_tokens: int = setting(96, at_least(1))
    lambda_retain: float = setting(1.25, at_least(0))
    min_len: int = setting(0, at_least(0))
    epochs: int = setting(15, at_least(0))
    selection: str = setting("best", one_of("best", "bradley_terry"))
    tau: float = setting(0.1, above(0))
    guard_empty: bool = True
    max_retain_loss: float | None = setting(None, above(0))
    max_train_score: float | None = setting(None, between(0, 1))
    steps_per_round: int = setting(1, at_least(1))
    retain_rows: int = setting(1, at_least(1))
    ramp_steps: int = setting(0, at_least(0))
    stop: bool = False
    stop_score: float = setting(0.05, at_least(0))
    stop_retain: float = setting(0.1, at_least(0))
    sample_batch_size: int = setting(64, at_least(1))
    score: str = setting("rougeL_recall", Check("text that is not empty", bool))
