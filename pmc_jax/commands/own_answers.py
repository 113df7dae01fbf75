"""Completes the retain data of a run with the target model's own answers."""

import contextlib
import dataclasses
from collections.abc import Sequence

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.run import Config
from pmc_jax.data.records import RetainSet
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import LoadedModel
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.unlearning.own_retain import own_pairs


def with_own_answers(
    inputs: RunInputs,
    generator: TextGenerator,
    originals: Sequence[str],
    config: Config,
    recorder: Recorder,
    run_state: RunState,
) -> RunInputs:
    """Returns the rows of a run with all retain pairs.

    Args:
        inputs: rows of the run, which are returned as they are if `data.retain` is a source.
        generator: the target model before the first step.
        originals: original answers to the forget questions, in their order.
        config: settings of the run.
        recorder: stopwatch and progress bars of the run.
        run_state: state to which the pairs are written. If it has pairs, the model is not asked.

    Raises:
        UserError: the model has no usable answer.
    """
    if inputs.own is None:
        return inputs
    if run_state.own_pairs is None:
        length = config.pmc.sampling.max_new_tokens
        settings = dataclasses.replace(config.evaluate, max_new_tokens=length)
        model = LoadedModel("own retain answers", generator)
        pairs = own_pairs(
            inputs.own,
            inputs.forget,
            inputs.retain,
            originals,
            lambda questions: model.greedy(questions, settings, recorder),
            generator,
            config,
        )
        run_state.own_pairs = [[*pairs.ids], [*pairs.questions], [*pairs.answers]]
    return dataclasses.replace(inputs, retain=RetainSet(*map(tuple, run_state.own_pairs)))


def saved_pairs(checkpoints: Checkpoints) -> list[list[str]] | None:
    """Returns `RunState.own_pairs` of the newest checkpoint that can be read, or None.

    All checkpoints of a run hold the same pairs.
    """
    for step in reversed(checkpoints.steps):
        with contextlib.suppress(UserError):
            return checkpoints.read(step)[1]["run_state"]["own_pairs"]
    return None
