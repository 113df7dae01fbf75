"""Prints sampled answers of the model in model.path to each forget question, as JSON Lines.

The settings in pmc.sampling determine how many answers are drawn, and how.
"""

import argparse
import json
from collections.abc import Callable

from pmc_jax.commands import start
from pmc_jax.config.run import model_path

READS = "model data.root data.forget data.people pmc.sampling mesh output.dir seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.commands.inputs import load_model
    from pmc_jax.commands.pinned_date import pin_date
    from pmc_jax.data.conversation import transcript
    from pmc_jax.data.sets import forget_set
    from pmc_jax.sampling.generator import TextGenerator, pmc_sampler

    forget, sampling = forget_set(config.data.forget, config.data), config.pmc.sampling
    config = pin_date(config, config.output.dir)
    lm = load_model(config, model_path(config))
    generator = TextGenerator.of(lm, config.model)
    # This call raises an error with the id of a question that is too long.
    generator.prompts(forget.questions, sampling.max_new_tokens, ids=forget.ids)
    answers = generator.sample(
        generator.snapshot(lm.model),
        forget.questions,
        pmc_sampler(config.pmc),
        num_samples=sampling.num_samples,
        max_new_tokens=sampling.max_new_tokens,
        batch_size=sampling.batch_size,
        seed=config.seed,
    )
    for id_, question, texts in zip(forget.ids, forget.questions, answers, strict=True):
        row = {"id": id_, "question": transcript(question), "answers": texts}
        say(json.dumps(row, ensure_ascii=False))
