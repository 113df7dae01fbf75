"""Runs the whole job: fine-tunes if asked, evaluates, unlearns, evaluates, exports.

An interrupted run resumes from its newest checkpoint. With --purge, removes the answers that
checkpoints, log and report hold, at the end of the run or of a finished run.
"""

import argparse
from collections.abc import Callable

from pmc_jax.commands import start

READS = "model data pmc method train finetune evaluate mesh output log report.text seed profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, overwrite=True, processes=True)
    parser.add_argument(
        "--purge",
        action="store_true",
        help="at the end, or of a finished run, remove the answers that it holds to be resumed",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.commands import unlearn_job

    if options.purge and unlearn_job.is_finished(config):
        unlearn_job.run_purge(config, say=say)
    else:
        unlearn_job.run_unlearn(config, overwrite=options.overwrite, say=say, purge=options.purge)
