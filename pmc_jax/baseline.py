"""The methods that PMC is compared with, from Python; PMC itself is `pmc_jax.unlearn`."""

import dataclasses
from collections.abc import Sequence

from pmc_jax.api import Pairs, Unlearned
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import Config, DataConfig, MethodConfig, ModelConfig, PMCConfig, TrainConfig
from pmc_jax.data.records import ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sets import pairs_to_retain, questions_to_forget
from pmc_jax.errors import UserError
from pmc_jax.models.load import LanguageModel
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.answer_source import ForgetAnswerSource
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.refusals import refusals_for


def unlearn_baseline(
    lm: LanguageModel,
    method: MethodConfig | str,
    forget: Sequence[str] | Pairs,
    retain: RetainSet | Pairs,
    *,
    config: PMCConfig | None = None,
    train: TrainConfig | None = None,
    model: ModelConfig | None = None,
    data: DataConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Unlearned:
    """Unlearns by another method; `lm` is left as it is.

    Args:
        lm: from `load`.
        method: a name of `pmc_jax.training.losses.METHODS` other than those of PMC, or its
            settings.
        forget: (question, true answer) pairs for a method that trains on true answers, questions
            for the others.
        retain: question-answer pairs that anchor what must stay.
        config: `epochs`, `lambda_retain` and `max_retain_loss` are read.
        train, model, data, seed, progress: as of `pmc_jax.unlearn`.

    Returns:
        As `pmc_jax.unlearn`; there are no originals, collapsed answers or scores.

    Raises:
        UserError: PMC itself, an unknown method, empty or invalid rows, or rows too long.
    """
    named = MethodConfig(name=method) if isinstance(method, str) else method
    kind = METHODS[named.name]
    if "collapse" in kind.terms:
        raise UserError(f"unlearn_baseline: {named.name} is pmc_jax.unlearn")
    retain = retain if isinstance(retain, RetainSet) else pairs_to_retain(list(retain))
    targets = None
    if kind.reads_true_answers:
        rows = pairs_to_retain(list(forget))
        targets = ForgetAnswerSet(rows.ids, rows.questions, rows.answers)
        questions = ForgetSet(rows.ids, rows.questions)
    else:
        questions = questions_to_forget(list(forget))
    settings = Config(
        pmc=config or PMCConfig(),
        method=named,
        train=train or TrainConfig(),
        data=data or DataConfig(),
        seed=seed,
    )
    refusals = refusals_for(named)
    generator, recorder = TextGenerator.of(lm, model or ModelConfig()), Recorder(bars=progress)
    with recorder.watch.compiling_apart():
        blank = [""] * len(questions)
        source = ForgetAnswerSource(
            generator, questions, targets, refusals, originals=blank, config=settings
        )
        run = Unlearning(generator, source, retain, config=settings, recorder=recorder)
        run.run()
    return Unlearned(
        lm=dataclasses.replace(lm, model=run.trainer.release()),
        originals={},
        collapsed={},
        scores={},
        rounds=run.rounds,
        seconds=recorder.watch.seconds(),
        tokens={"sampled": 0, "trained": run.trainer.tokens},
        adapters=run.trainer.adapters,
        lora=run.trainer.lora,
    )
