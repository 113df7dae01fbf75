"""Settings of the report; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.schema import Check, Section, setting


@dataclass(frozen=True)
class ReportConfig(Section):
    """The page of a run, `report.html`, and the same for machines, `report.json`.

    Fields:
        text: questions and answers stand in both, as far as the log holds them (`log.text`). They
            are about people: off by default.
        file: the page that `pmc report` writes, a name that ends in .html, the JSON beside it;
            None = report.html in the run's folder, or in the current one where several runs stand
            side by side.
    """

    text: bool = False
    file: str | None = setting(
        None, Check("a file name that ends in .html", lambda name: name.endswith(".html"))
    )
