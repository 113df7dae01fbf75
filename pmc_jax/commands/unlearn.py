"""Runs a complete unlearning job, from the settings to the exported model and the report.

The command makes a target model if finetune.data is set, evaluates the model, unlearns, evaluates
again and exports the model. An interrupted run resumes from its newest checkpoint. --purge removes
the files that know the data (checkpoints, target, texts in the log and the report), at the end of
the run or from a finished run. It names the files that still know the data.
"""

import argparse
from collections.abc import Callable

from pmc_jax.commands import start

READS = "model data pmc method train finetune evaluate mesh output log report.text seed profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    purge = "remove the files that know the data, at the end of the run or from a finished run"
    start.add_arguments(parser, processes=True, overwrite=start.OVERWRITE, purge=purge)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    config = start.read_config(options)
    from pmc_jax.commands import unlearn_job

    if options.purge and not options.overwrite and unlearn_job.is_finished(config):
        unlearn_job.run_purge(config, say=say)
    else:
        unlearn_job.run_unlearn(config, overwrite=options.overwrite, say=say, purge=options.purge)
