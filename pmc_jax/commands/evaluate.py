"""Measures the model in model.path, or the models of a finished run (pmc evaluate OUTPUT_FOLDER).

The setting evaluate.measures lists measures in addition to unlearn quality and utility. See
docs/reference/evaluation.md.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from pmc_jax.commands import start

READS = "model data evaluate mesh output.dir log report.text seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, config="CONFIG.yaml|OUTPUT_FOLDER", processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    if Path(options.config).is_dir():
        start.set_up_libraries()
        from pmc_jax.commands.evaluate_job import run_evaluate_run

        run_evaluate_run(Path(options.config), options.overrides, say=say)
        return
    config = start.read_config(options)
    from pmc_jax.commands.evaluate_job import run_evaluate

    say(json.dumps(run_evaluate(config, say=say)))
