"""Builds an unlearning run, for the commands and the library alike."""

from collections.abc import Sequence

from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.base import Score
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.answer_source import ForgetAnswerSource
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.pmc_source import PMCSource


def trains_on_own_answers(config: Config) -> bool:
    """Whether the method is PMC or a variant of it."""
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
    """Builds the loop of the method `config.method` with the rows that it trains on.

    Args:
        generator: the model before unlearning.
        inputs: the rows of the run; those for evaluation are not read.
        originals: the model's greedy answers to the forget questions; PMC moves away from them.
        score: replaces `config.pmc.score` of PMC.

    Raises:
        UserError: empty sets, or prompts or rows that are too long.
    """
    common = dict(originals=originals, config=config)
    forget, retain, refusals = inputs.forget, inputs.retain, inputs.refusals
    if trains_on_own_answers(config):
        source = PMCSource(
            generator, forget, retain, refusals=refusals, recorder=recorder, score=score, **common
        )
    else:
        source = ForgetAnswerSource(generator, forget, inputs.forget_answers, refusals, **common)
    how = dict(config=config, recorder=recorder, run_state=run_state, donate=donate)
    return Unlearning(generator, source, retain, **how)
