"""Settings of the report; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.schema import Check, Section, setting


@dataclass(frozen=True)
class ReportConfig(Section):
    """The report of a run: `report.html` for people and `report.json` for programs.

    Fields:
        text: show questions and answers in both files, if the log holds them (`log.text`); off by
            default, because they are about people.
        file: the page that `pmc report` writes, a name that ends in .html, with the JSON file next
            to it; None = report.html in the folder of the run, or in the current folder for several
            runs.
    """

    text: bool = False
    file: str | None = setting(
        None, Check("a file name that ends in .html", lambda name: name.endswith(".html"))
    )
