"""Settings of the report (section `report`)."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.paths import output_setting
from pmc_jax.config.schema import Check, Section


@dataclass(frozen=True)
class ReportConfig(Section):
    """The report of a run: `report.html` for people and `report.json` for programs.

    Fields:
        text: whether both files show the questions and answers in the log (see `log.text`); the
            default is false because questions and answers may be personal data.
        file: HTML file that `pmc report` writes, with the JSON file next to it; None selects
            report.html in the run folder, or in the current folder for several runs.

    Example:
        >>> pmc.ReportConfig(text=True)
        ReportConfig(text=true)
    """

    text: bool = False
    file: str | None = output_setting(
        None, Check("a file name that ends in .html", lambda name: name.endswith(".html"))
    )
