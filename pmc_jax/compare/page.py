"""The dictionary of `collect` -> `compare.html`: one file that loads nothing and runs nothing."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pmc_jax.compare import drawings, words
from pmc_jax.compare.collect import LIMITATIONS
from pmc_jax.report.page import environment
from pmc_jax.report.plots import Plot
from pmc_jax.report.words import MEASURES, devices

MARK = '<meta name="generator" content="pmc_jax comparison">'


def render(comparison: Mapping[str, Any]) -> tuple[str, list[Plot]]:
    """The page of a comparison, HTML, and the drawings on it."""
    pareto, over_time = drawings.pareto(comparison), drawings.over_time(comparison)
    asked = comparison["settings"]["measures"]
    wanted = list(MEASURES) if "all" in asked else asked
    order = [*LIMITATIONS, *(name for name in MEASURES if name not in LIMITATIONS)]
    measures = [_measure(comparison, name) for name in order if name in wanted]
    html = environment().get_template("compare.html.j2").render(
        mark=Markup(MARK),
        comparison=comparison,
        entries=words.measured(comparison),
        findings=words.findings(comparison),
        pareto=pareto,
        over_time=over_time,
        results=words.results(comparison),
        more=words.more(comparison),
        paired=words.paired(comparison),
        limitations=[one for one in measures if one["name"] in LIMITATIONS],
        others=[one for one in measures if one["name"] not in LIMITATIONS],
        trials=words.trials(comparison),
        rule=words.rule(comparison),
        devices=devices(comparison),
    )  # fmt: skip
    limits = [plot for one in measures for plot in one["plots"]]
    return html, ([] if pareto is None else [pareto]) + over_time + limits


def _measure(comparison: Mapping[str, Any], name: str) -> dict[str, Any]:
    title, what = MEASURES[name]
    return {
        "name": name,
        "title": title,
        "what": what,
        "plots": drawings.of_measure(comparison, name),
        "table": words.of_measure(comparison, name),
        "reason": comparison["not_computed"].get(name, "no cell is finished"),
    }
