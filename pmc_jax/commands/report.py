"""`pmc report`: the page of a finished run, or of several."""

from collections.abc import Callable, Sequence

from pmc_jax.config.run import config_from_overrides
from pmc_jax.report.write import write


def run_report(arguments: Sequence[str], *, say: Callable[[str], None]) -> None:
    """`pmc report`: makes the page of one run again, or of several side by side.

    Args:
        arguments: folders, and overrides `report.key=value`.
    """
    overrides = [text for text in arguments if text.startswith("report.") and "=" in text]
    folders = [text for text in arguments if text not in overrides]
    say(f"wrote {write(folders, config_from_overrides(overrides).report)}")
