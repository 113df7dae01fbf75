"""Checks a run without starting it, and predicts its memory, disk space and time.

The command reads all that pmc unlearn would read: the settings, the model and the rows. It prints
each fault on its own line and exits with status 2, or with status 0 if the run would start. It
counts rows, tokens, overlaps and steps, and says which measures will be missing. To predict the
time, it runs a few steps of each program of the run on this device. It writes no file, except FILE
with --prompts and what jax and Hugging Face keep in their own caches.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pmc_jax.commands import start
from pmc_jax.config.run import load_config
from pmc_jax.config.schema import SettingsError

READS = "model data pmc method train finetune evaluate mesh output seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(
        parser,
        overwrite="check whether pmc unlearn --overwrite would start",
        fast="leave out the timed steps, and with them the prediction of the time",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        type=Path,
        help="write the first prompts of each set of rows to a new file that only you can read",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    try:
        config = load_config(options.config, options.overrides)
    except SettingsError as error:
        return _report(error.faults)
    start.set_up_libraries()
    from pmc_jax.commands.check_job import run_check

    how = dict(overwrite=options.overwrite, prompts=options.prompts, timed=not options.fast)
    return _report(run_check(config, **how, say=say))


def _report(faults: Sequence[str]) -> int:
    """Prints the faults, and returns the exit status."""
    for fault in faults:
        print(f"pmc: error: {fault}", file=sys.stderr)
    return 2 if faults else 0
