"""Predicts the memory and time of a run on the TPU slice in plan.topology, without a TPU.

The command compiles the programs of the run and writes the plan to plan.file.
"""

import argparse
import os
import sys
from collections.abc import Callable

from pmc_jax.commands import start
from pmc_jax.config.run import load_config

READS = "model data pmc method train finetune mesh plan"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser)


def run(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Writes the plan to `plan.file` and prints its tables.

    Raises:
        UserError: the topology is unknown, the TPU compiler or the model's configuration is
            missing, `plan.search` finds nothing that fits, or `plan.file` cannot be written.
    """
    config = load_config(options.config, options.overrides)
    start.quiet_libraries()
    os.environ["JAX_PLATFORMS"] = "cpu"  # A plan does not use a TPU of this machine.
    from pmc_jax.artifacts.files import write_json
    from pmc_jax.planning.plan import Planner, check_file
    from pmc_jax.planning.report import plan_tables
    from pmc_jax.planning.search import search

    check_file(config.plan.file)
    planner = Planner(config, _note)
    plan = search(planner, config, _note) if config.plan.search else planner.plan(config)
    check_file(config.plan.file)
    write_json(config.plan.file, plan.record())
    say(plan_tables(plan))
    say(f"\npmc wrote {config.plan.file}")


def _note(text: str) -> None:
    print(f"pmc: {text}", file=sys.stderr, flush=True)
