"""What is done with the folder of a finished run: its report and its digests.

Nothing here imports jax.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from pmc_jax import hosts, manifest
from pmc_jax.config import config_from_overrides
from pmc_jax.report.write import write
from pmc_jax.report_config import ReportConfig


def run_report(arguments: Sequence[str], *, say: Callable[[str], None]) -> None:
    """`pmc report`: makes the page of one run again, or of several side by side.

    Args:
        arguments: folders, and overrides `report.key=value`.
    """
    overrides = [text for text in arguments if text.startswith("report.") and "=" in text]
    folders = [text for text in arguments if text not in overrides]
    say(f"wrote {write(folders, config_from_overrides(overrides).report)}")


def run_verify(folder: str, *, say: Callable[[str], None]) -> bool:
    """`pmc verify`: whether all files of a finished run are as its manifest says."""
    good, faults = manifest.verify(folder)
    for line in faults:
        say(line)
    say(f"{good} files as recorded" + (f", {len(faults)} not" if faults else ""))
    return not faults


def close(folder: Path, *, purge: bool, text: bool) -> None:
    """Takes away what is not to be kept and writes the report; the first process does it."""
    if hosts.is_first():
        if purge:
            manifest.purge(folder)
        write([folder], ReportConfig(text=text))
