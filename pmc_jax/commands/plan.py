"""What `pmc plan` does."""

import sys
from collections.abc import Callable

from pmc_jax.config.run import Config
from pmc_jax.planning.plan import Plan, Planner, check_file, write_plan
from pmc_jax.planning.report import plan_tables
from pmc_jax.planning.search import search


def run_plan(config: Config, *, say: Callable[[str], None]) -> Plan:
    """Compiles the run's programs for `plan.topology`, writes `plan.file` and says the tables.

    Raises:
        UserError: no such topology, no compiler, no shape of the model, nothing that fits.
    """
    check_file(config.plan.file)
    planner = Planner(config, _note)
    plan = search(planner, config, _note) if config.plan.search else planner.plan(config)
    write_plan(plan, config.plan.file)
    say(plan_tables(plan))
    say(f"\nwrote {config.plan.file}")
    return plan


def _note(text: str) -> None:
    print(f"pmc: {text}", file=sys.stderr, flush=True)
