"""Settings of the report (section `report`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pmc_jax.config.paths import output_setting
from pmc_jax.config.schema import NOT_EMPTY, Check, Section, setting

_DATE = Check(
    "a date such as '2026-05-31'", lambda text: re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is not None
)


@dataclass(frozen=True)
class RequestConfig(Section):
    """The removal request that a run answers, as the report names it.

    Fields:
        reference: reference or file number of the request.
        date: date of the request, as YEAR-MONTH-DAY.
        responsible: name of the person who is responsible for the removal.

    Example:
        >>> pmc.RequestConfig(reference="R-17", date="2026-05-31")
        RequestConfig(reference='R-17', date='2026-05-31')
    """

    reference: str | None = setting(None, NOT_EMPTY)
    date: str | None = setting(None, _DATE)
    responsible: str | None = setting(None, NOT_EMPTY)


@dataclass(frozen=True)
class ReportConfig(Section):
    """The report of a run: `report.html` for people and `report.json` for programs.

    Fields:
        text: whether both files show the questions and answers in the log (see `log.text`); the
            default is false because questions and answers may be personal data.
        file: HTML file that `pmc report` writes, with the JSON file next to it; None selects
            report.html in the run folder, or in the current folder for several runs.
        request: removal request that the report names.

    Example:
        >>> pmc.ReportConfig(text=True)
        ReportConfig(text=true)
    """

    text: bool = False
    file: str | None = output_setting(
        None, Check("a file name that ends in .html", lambda name: name.endswith(".html"))
    )
    request: RequestConfig = field(default_factory=RequestConfig)
