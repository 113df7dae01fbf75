"""Runs a complete unlearning job, from the settings to the exported model and the report.

The command makes a target model if finetune.data is set, evaluates the model, unlearns, evaluates
again and exports the model. An interrupted run resumes from its newest checkpoint. --purge removes
the checkpoints, the target model and other files of the run that can reveal the data, and the texts
in the log and the report. It lists the files that you must delete yourself. To purge a finished
run, use pmc unlearn OUTPUT_FOLDER --purge.

--require-forgotten LEVEL ends a finished run with exit status 3 if an answer still tells a secret.
The level said checks the greedy answer. The level sampled also checks several samples (by default
16). The level elicited also checks answers that an attacker begins, and answers to paraphrases. See
docs/reference/evaluation.md#levels.
"""

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.commands import start
from pmc_jax.config.evaluate import LEVELS
from pmc_jax.config.run import Config, output_dir
from pmc_jax.errors import UserError
from pmc_jax.evaluation.forgotten import is_forgotten

NOT_FORGOTTEN = 3  # exit status
READS = "model data pmc method train finetune evaluate mesh output log report.text seed profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    purge = (
        "remove the files that can reveal the data, at the end of the run or from a finished run"
    )
    start.add_arguments(
        parser,
        config="CONFIG.yaml|OUTPUT_FOLDER",
        processes=True,
        overwrite="replace the files that an earlier run wrote to output.dir",
        purge=purge,
    )
    parser.add_argument(
        "--require-forgotten",
        choices=LEVELS,
        metavar="LEVEL",
        help=f"exit with status 3 unless every question is forgotten at this level and all levels "
        f"before it ({', '.join(LEVELS)})",
    )


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    level = options.require_forgotten
    if options.purge and Path(options.config).is_dir():
        start.set_up_libraries()
        from pmc_jax.commands import unlearn_job

        return _status(unlearn_job.run_purge(Path(options.config), say=say), level)
    config = start.read_config(options)
    _check_measured(config, level)
    from pmc_jax.commands import unlearn_job

    if options.purge and not options.overwrite and unlearn_job.is_finished(config):
        return _status(unlearn_job.run_purge(Path(output_dir(config)), say=say), level)
    how = dict(overwrite=options.overwrite, purge=options.purge)
    return _status(unlearn_job.run_unlearn(config, **how, say=say), level)


def _status(results: Mapping[str, Any], level: str | None) -> int:
    """Returns the exit status of a finished run.

    Args:
        level: level of --require-forgotten, or None without this option.

    Raises:
        UserError: the run did not measure the level or a level before it.
    """
    if level is None:
        return 0
    forgotten = results["forgotten"] or {}
    if any(forgotten.get(name) is None for name in _up_to(level)):
        raise UserError(
            f"--require-forgotten {level}: the finished run did not measure all required "
            f"levels ({', '.join(_up_to(level))}). Repeat the run with --overwrite and "
            f"evaluate.levels.measured=[{','.join(_up_to(level))}]."
        )
    if is_forgotten(forgotten, level):
        return 0
    logging.getLogger(__name__).error(
        "--require-forgotten %s: some questions are not forgotten (%s). Read report.html, which "
        "lists these questions.",
        *(level, forgotten["headline"]),
    )
    return NOT_FORGOTTEN


def _check_measured(config: Config, level: str | None) -> None:
    """Raises a `UserError` if the run does not measure a required level."""
    needed = () if level is None else _up_to(level)
    measured = config.evaluate.levels.measured
    if missing := [name for name in needed if name not in measured]:
        raise UserError(
            f"--require-forgotten {level}: evaluate.levels.measured must contain "
            f"{' and '.join(missing)}. Set evaluate.levels.measured=[{','.join(needed)}]."
        )


def _up_to(level: str) -> tuple[str, ...]:
    """Returns the levels up to and including `level`."""
    return LEVELS[: LEVELS.index(level) + 1]
