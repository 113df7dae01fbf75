"""The end of a run's folder: what is not to stay is removed, and the report is written."""

from pathlib import Path

from pmc_jax.artifacts import manifest
from pmc_jax.config.report import ReportConfig
from pmc_jax.distributed import multihost
from pmc_jax.report.write import write


def finalize(folder: Path, *, purge: bool, text: bool) -> None:
    """Removes the answers of a finished run where `purge`, and writes its report; the first process
    does it.
    """
    if multihost.is_first():
        if purge:
            manifest.purge(folder)
        write([folder], ReportConfig(text=text))
