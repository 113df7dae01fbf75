"""The dictionary of `collect` -> `compare.html`: one file that loads nothing and runs nothing."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pmc_jax.compare import narrative, plots
from pmc_jax.compare.collect import LIMITATIONS
from pmc_jax.report.narrative import MEASURES, devices
from pmc_jax.report.page import environment
from pmc_jax.report.plots import Plot

MARK = '<meta name="generator" content="pmc_jax comparison">'


def render(comparison: Mapping[str, Any]) -> tuple[str, list[Plot]]:
    """The page of a comparison, HTML, and the drawings on it."""
    pareto, over_time = plots.pareto(comparison), plots.over_time(comparison)
    asked = comparison["settings"]["measures"]
    wanted = list(MEASURES) if "all" in asked else asked
    order = [*LIMITATIONS, *(name for name in MEASURES if name not in LIMITATIONS)]
    measures = [_measure(comparison, name) for name in order if name in wanted]
    html = environment().get_template("compare.html.j2").render(
        mark=Markup(MARK),
        comparison=comparison,
        entries=narrative.measured(comparison),
        findings=narrative.findings(comparison),
        pareto=pareto,
        over_time=over_time,
        results=narrative.results(comparison),
        more=narrative.more(comparison),
        paired=narrative.paired(comparison),
        limitations=[one for one in measures if one["name"] in LIMITATIONS],
        others=[one for one in measures if one["name"] not in LIMITATIONS],
        trials=narrative.trials(comparison),
        criterion=narrative.criterion(comparison),
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
        "plots": plots.of_measure(comparison, name),
        "table": narrative.of_measure(comparison, name),
        "reason": comparison["not_computed"].get(name, "no run is finished"),
    }
