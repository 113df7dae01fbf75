"""`pmc report`: writes the page and its JSON from the folders of finished runs.

Both can be written again at any time, so `manifest.json`, which they quote, does not list them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import json_text, write_text
from pmc_jax.config.report import ReportConfig
from pmc_jax.errors import UserError
from pmc_jax.report.collect import KIND, collect
from pmc_jax.report.page import MARK, render


def write(
    folders: Sequence[str | Path],
    settings: ReportConfig,
    *,
    results: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the report of one run, or of several side by side.

    Args:
        folders: folders of finished runs, without duplicates.
        settings: `file` None means report.html, in the folder of a single run or else in the
            current folder.
        results: the results of a single run whose `results.json` is not written yet.

    Returns:
        Path of the page; the JSON is next to it.

    Raises:
        UserError: a folder has no finished run, or an existing file is not a report.
    """
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UserError("pmc report: a folder is named twice; name each folder once")
    folder = Path(folders[0]) if len(folders) == 1 else Path()
    page = Path(settings.file) if settings.file else folder / run_folder.REPORT
    data = page.with_suffix(".json")
    report = collect(folders, text=settings.text, results=results)
    for path, mark in ((page, MARK), (data, f'"kind": "{KIND}"')):
        if path.exists() and not _begins_with(path, mark):
            raise UserError(
                f"{path}: not a report written by pmc; nothing was changed. Name another file with "
                "report.file=NAME.html"
            )
    html = render(report)
    write_text(data, json_text(report))
    write_text(page, html)
    return page


def _begins_with(path: Path, mark: str) -> bool:
    """Whether the mark is in the first 4096 bytes of a file."""
    try:
        return mark.encode() in path.read_bytes()[:4096]
    except OSError:
        return False
