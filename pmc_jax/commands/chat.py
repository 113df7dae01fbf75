"""Talks with the model of a finished run in a terminal, before and after unlearning side by side.

MODEL (a model folder, a *.gguf file or package:NAME) and model.path of CONFIG.yaml answer alone.
Each model has its own conversation. Lines from a pipe are answered too. The line /help lists the
commands. pmc stores nothing of a conversation.
"""

import argparse
from collections.abc import Callable

from pmc_jax.commands import start
from pmc_jax.commands.model_argument import NAMES, read_argument

READS = (
    "model evaluate.max_new_tokens evaluate.batch_size evaluate.levels.temperature mesh output.dir "
    "seed"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, config=NAMES)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    config, folder = read_argument(options)
    from pmc_jax.commands.chat_job import run_chat

    return run_chat(config, folder)
