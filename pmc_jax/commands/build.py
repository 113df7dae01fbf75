"""Builds an unlearning run for the commands and for the Python API."""

import dataclasses
from collections.abc import Sequence

from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.base import Score
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.answer_source import ForgetAnswerSource
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.own_retain import retain_shares
from pmc_jax.unlearning.pmc_source import PMCSource


def trains_on_own_answers(config: Config) -> bool:
    """Returns whether the method of a run trains on the model's own answers, as PMC does."""
    return "collapse" in METHODS[config.method.name].terms


def build_run(
    generator: TextGenerator,
    inputs: RunInputs,
    originals: Sequence[str],
    *,
    config: Config,
    recorder: Recorder,
    run_state: RunState | None = None,
    score: Score | None = None,
    donate: bool = False,
) -> Unlearning:
    """Builds the unlearning loop for the method, the model and the rows of a run.

    Args:
        generator: the model before unlearning.
        inputs: rows of the run. The evaluation sets are not read.
        originals: original answers to the forget questions, in their order.
        recorder: log, stopwatch and checkpoints of the run.
        run_state: state that checkpoints store besides the trainer's; None starts with an empty
            state.
        score: score that replaces `pmc.score.name` and `pmc.score.weights`.
        donate: whether training may reuse the buffers of the model.

    Raises:
        UserError: a set is empty, a prompt or a row is too long, the score is unknown, or the
            questions cannot be asked as `pmc.answer` requires.
    """
    method = config.method.with_retain_loss(own=inputs.own is not None)
    config = dataclasses.replace(config, method=method)
    common = dict(originals=originals, config=config)
    forget, retain, refusals = inputs.forget, inputs.trained_retain, inputs.refusals
    if trains_on_own_answers(config):
        source = PMCSource(
            generator, forget, retain, refusals=refusals, recorder=recorder, score=score, **common
        )
    else:
        source = ForgetAnswerSource(generator, forget, inputs.forget_answers, refusals, **common)
    shares = retain_shares(retain, inputs.own) if inputs.own else None
    how = dict(config=config, recorder=recorder, run_state=run_state, donate=donate)
    return Unlearning(generator, source, retain, retain_shares=shares, **how)
