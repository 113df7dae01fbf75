"""One unlearning run, put together in the same way for the commands and the library."""

from collections.abc import Sequence

from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring import Score
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.answer_source import ForgetAnswerSource
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.pmc_source import PMCSource


def trains_on_own_answers(config: Config) -> bool:
    """Whether the method is PMC or a variant of it."""
    return "collapse" in METHODS[config.method.name].terms


def build_run(
    generator: TextGenerator,
    forget: ForgetSet,
    retain: RetainSet,
    *,
    originals: Sequence[str],
    forget_answers: ForgetAnswerSet | None,
    refusals: Sequence[str],
    config: Config,
    recorder: Recorder,
    run_state: RunState | None = None,
    score: Score | None = None,
    donate: bool = False,
) -> Unlearning:
    """The loop of the method that `config.method` names, with the rows that it trains on.

    Args:
        generator: the model before unlearning.
        originals: its greedy answers to `forget.questions`; PMC moves away from them.
        forget_answers: the true answers; None for a method that reads none.
        refusals: empty for a method that trains on none.
        score: for PMC, in place of `config.pmc.score`.

    Raises:
        UserError: empty sets, or prompts or rows that are too long.
    """
    if trains_on_own_answers(config):
        source = PMCSource(
            generator,
            forget,
            retain,
            originals=originals,
            refusals=refusals,
            config=config,
            recorder=recorder,
            score=score,
        )
    else:
        source = ForgetAnswerSource(
            generator, forget, forget_answers, refusals, originals=originals, config=config
        )
    return Unlearning(
        generator,
        source,
        retain,
        config=config,
        recorder=recorder,
        run_state=run_state,
        donate=donate,
    )
