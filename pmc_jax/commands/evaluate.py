"""Measures model.path, or a finished run beside its reference: pmc evaluate OUTPUT_FOLDER.

evaluate.measures says what is measured beside unlearn quality and utility; see
docs/reference/evaluation.md.
"""

import argparse
import json
import os
from collections.abc import Callable

from pmc_jax.commands import start

READS = "model data evaluate mesh log report.text seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, config="CONFIG.yaml|OUTPUT_FOLDER", processes=True)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    if os.path.isdir(options.config):
        start.set_up_libraries()
        from pmc_jax.commands.evaluate_job import run_evaluate_run

        run_evaluate_run(options.config, options.overrides, say=say)
        return
    config = start.read_config(options)
    from pmc_jax.commands.evaluate_job import run_evaluate

    say(json.dumps(run_evaluate(config, say=say)))
