"""Fine-tunes model.path on finetune.data and writes this target model to output.dir/target."""

import argparse
from collections.abc import Callable

from pmc_jax.commands import start

READS = "model data.root data.people data.max_length data.long_rows finetune mesh output.dir seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    overwrite = "replace a target model that was made from other settings or data"
    start.add_arguments(parser, overwrite=overwrite, processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.commands.target import make_target

    make_target(config, overwrite=options.overwrite, say=say)
