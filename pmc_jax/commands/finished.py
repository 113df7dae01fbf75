"""What is done with the folder of a finished run: its report and its digests.

Nothing here imports jax.
"""

from pathlib import Path

from pmc_jax.artifacts import manifest
from pmc_jax.config.report import ReportConfig
from pmc_jax.distributed import multihost
from pmc_jax.report.write import write


def close(folder: Path, *, purge: bool, text: bool) -> None:
    """Takes away what is not to be kept and writes the report; the first process does it."""
    if multihost.is_first():
        if purge:
            manifest.purge(folder)
        write([folder], ReportConfig(text=text))
