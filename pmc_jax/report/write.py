"""Writes the page and the JSON of `pmc report` from the folders of finished runs.

These files can be written again at any time. In the folder of a run, their digests in
`manifest.json` are then updated.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pmc_jax.artifacts import manifest, run_files
from pmc_jax.artifacts.files import json_text, write_text
from pmc_jax.config.reading import open_regular
from pmc_jax.config.report import ReportConfig
from pmc_jax.errors import UserError
from pmc_jax.report.collect import KIND, WRONG_VALUES, collect, damaged
from pmc_jax.report.page import MARK, render


def write(
    folders: Sequence[str | Path],
    settings: ReportConfig,
    *,
    results: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the report of one run, or of several runs that are shown side by side.

    Args:
        folders: folders of finished runs, without duplicates.
        settings: settings of the report. If `file` is None, the page is report.html in the folder
            of a single run, or in the current folder for several runs.
        results: contents of the `results.json` of a single run, before that file is written.

    Returns:
        The path of the page. The JSON is in the same folder.

    Raises:
        UserError: a folder is given twice or holds no finished run, a file in it is damaged, an
            existing file with the name of the page or of the JSON is not a report, or a file
            cannot be written.
    """
    paths = [Path(folder).resolve() for folder in folders]
    if repeated := [path for path in paths if paths.count(path) > 1]:
        raise UserError(f"{repeated[0]}: this folder is given twice. Pass each folder once.")
    folder = Path(folders[0]) if len(folders) == 1 else Path()
    page = Path(settings.file) if settings.file else folder / run_files.REPORT
    request = dataclasses.asdict(settings.request)
    report = collect(folders, text=settings.text, results=results, request=request)
    save(report, page, folders)
    if page.parent.resolve() == folder.resolve():
        manifest.record(folder, (page.name, page.with_suffix(".json").name))
    return page


def save(report: Mapping[str, Any], page: Path, folders: Sequence[str | Path]) -> None:
    """Writes the page and the JSON of a report.

    Args:
        report: contents of the JSON.
        page: HTML file to write. The JSON is in the same folder.
        folders: folders of the runs, which messages name.

    Raises:
        UserError: a file of a run is damaged, an existing file with the name of the page or of the
            JSON is not a report, or a file cannot be written.
    """
    data = page.with_suffix(".json")
    for path, mark in ((page, MARK), (data, f'"kind": "{KIND}"')):
        if os.path.lexists(path) and not _begins_with(path, mark):
            raise UserError(
                f"{path}: the file is not a report of pmc, so pmc does not replace it. Move the "
                "file away, then run the same command again."
            )
    try:
        html = render(report)
    except (*WRONG_VALUES, jinja2.TemplateError) as error:
        raise damaged(folders, error) from error
    write_text(data, json_text(report))
    write_text(page, html)


def _begins_with(path: Path, mark: str) -> bool:
    """Returns whether the first 4096 bytes of a file contain a mark."""
    try:
        with open_regular(path) as file:
            return mark.encode() in file.read(4096)
    except OSError:
        return False
