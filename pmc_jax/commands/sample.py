"""Prints what a model answers to questions, as JSON Lines: greedy answers unless asked otherwise.

The model is model.path of the settings, the unlearned model of a finished run, or MODEL: a model
folder, a *.gguf file or package:NAME. A line of the output has the id of a question, the question
and the list of its answers.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pmc_jax.commands import start
from pmc_jax.commands.model_argument import NAMES, read_argument
from pmc_jax.config.run import Config, model_path
from pmc_jax.errors import UserError

if TYPE_CHECKING:
    from pmc_jax.sampling.sampler import Sampler

READS = (
    "model data.root data.forget data.retain data.evaluate data.people evaluate.max_new_tokens "
    "evaluate.batch_size evaluate.levels.temperature pmc.sampling mesh output.dir seed"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, config=NAMES, processes=True)
    parser.add_argument(
        "--question",
        action="append",
        metavar="TEXT",
        help="ask this question in place of the forget questions; repeatable; - reads one question "
        "from each line of stdin",
    )
    parser.add_argument(
        "--set",
        metavar="NAME",
        help="ask the questions of data.forget (NAME is forget, the default), of data.retain "
        "(retain) or of data.evaluate.NAME",
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        help="sample N answers to each question in place of the greedy answer",
    )
    parser.add_argument(
        "--temperature",
        metavar="T",
        help="temperature of --samples (default: evaluate.levels.temperature)",
    )
    parser.add_argument(
        "--as-trained",
        action="store_true",
        help="sample with the settings of pmc.sampling, as training does with pmc.answer=own",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    _check_options(options)
    drawn = {"num_samples": options.samples, "temperature": options.temperature}
    options.overrides += [
        f"evaluate.levels.{name}={value}" for name, value in drawn.items() if value is not None
    ]
    config, _ = read_argument(options)
    ids, questions = _questions(options, config)
    from pmc_jax.commands.inputs import load_model
    from pmc_jax.data.conversation import transcript
    from pmc_jax.sampling.generator import TextGenerator

    sampler, limits = _drawing(options, config)
    lm = load_model(config, model_path(config))
    generator = TextGenerator.of(lm, config.model)
    # This call raises an error with the id of a question that is too long.
    generator.prompts(questions, limits["max_new_tokens"], ids=ids)
    weights = generator.snapshot(lm.model)
    answers = generator.sample(weights, questions, sampler, seed=config.seed, **limits)
    for id_, question, texts in zip(ids, questions, answers, strict=True):
        row = {"id": id_, "question": transcript(question), "answers": texts}
        say(json.dumps(row, ensure_ascii=False))


def _check_options(options: argparse.Namespace) -> None:
    faults = {
        "--question and --set both select the questions. Remove one of them.": (
            options.question and options.set is not None
        ),
        "--as-trained samples as pmc.sampling says. Remove --samples and --temperature, or remove "
        "--as-trained.": options.as_trained and (options.samples or options.temperature),
        "--temperature has no effect on greedy answers. Add --samples N.": (
            options.temperature and not options.samples and not options.as_trained
        ),
    }
    if found := [text for text, is_fault in faults.items() if is_fault]:
        raise UserError(" ".join(found))


def _questions(options: argparse.Namespace, config: Config) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the ids of the questions, and the questions."""
    from pmc_jax.data.lines import stdin_lines
    from pmc_jax.data.sets import eval_set, forget_set, questions_to_forget, retain_set
    from pmc_jax.distributed import multihost

    data, name = config.data, options.set or "forget"
    if options.question:
        has_piped, read = "-" in options.question, lambda: list(filter(None, stdin_lines()))
        piped = multihost.broadcast(read) if has_piped else []
        parts = (piped if text == "-" else [text] for text in options.question)
        rows = questions_to_forget(itertools.chain.from_iterable(parts), "--question")
    elif name == "forget":
        rows = forget_set(data.forget, data)
    elif name == "retain":
        rows = retain_set(data.retain, data)
    elif name in data.evaluate:
        rows = eval_set(name, data.evaluate[name], data)
    else:
        names = ", ".join(dict.fromkeys(("forget", "retain", *data.evaluate)))
        raise UserError(f"--set {name}: data.evaluate has no such set. Use one of {names}.")
    if not rows.questions:  # The pairs of data.retain=own exist only during a run.
        raise UserError(f"--set {name}: data.{name} has no rows. Use another set.")
    return rows.ids, rows.questions


def _drawing(options: argparse.Namespace, config: Config) -> tuple["Sampler", dict[str, int]]:
    """Returns the sampler, and the numbers of samples, of tokens and of answers in a batch."""
    from pmc_jax.sampling.sampler import GREEDY, Sampler, pmc_sampler

    levels, sizes, number = config.evaluate.levels, config.evaluate, 1
    sampler = GREEDY
    if options.as_trained:
        sampler, sizes = pmc_sampler(config.pmc), config.pmc.sampling
        number = sizes.num_samples
    elif options.samples:
        sampler, number = Sampler(levels.temperature), levels.num_samples
    limits = dict(num_samples=number, max_new_tokens=sizes.max_new_tokens)
    return sampler, limits | {"batch_size": sizes.batch_size}
