"""Compares methods, settings and seeds in runs with equal time limits, and writes a results page.

The time limit of a run covers sampling, scoring and training. The command skips finished runs and
resumes an interrupted run. See docs/reference/comparison.md.
"""

import argparse
from collections.abc import Callable

from pmc_jax.commands import start
from pmc_jax.config.compare import CompareConfig, load_compare
from pmc_jax.config.schema import dotted_names

SCHEMA, READS = CompareConfig, " ".join(dotted_names(CompareConfig))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(
        parser,
        config="COMPARE.yaml",
        schema=CompareConfig,
        overwrite="repeat all runs of an earlier comparison in output.dir",
        purge="remove the files of a finished comparison that can reveal the data",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    compare = load_compare(options.config, options.overrides)
    start.set_up_libraries()
    if options.purge:
        from pmc_jax.commands.purge import purge_comparison

        purge_comparison(compare, say=say)
        return
    from pmc_jax.commands.compare_job import run_compare

    run_compare(compare, overwrite=options.overwrite, say=say)
