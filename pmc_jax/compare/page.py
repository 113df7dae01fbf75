"""Renders a comparison as an HTML page in one file without scripts or external resources."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pmc_jax.artifacts.figure import Figure
from pmc_jax.compare import narrative, plots
from pmc_jax.compare.collect import LIMITATIONS
from pmc_jax.report.narrative import devices, inline
from pmc_jax.report.page import environment
from pmc_jax.report.texts import MEASURE_TEXTS

MARK = '<meta name="generator" content="pmc_jax comparison">'


def render(comparison: Mapping[str, Any]) -> tuple[str, list[Figure]]:
    """Renders the HTML page of a comparison and returns the page and the drawn figures."""
    pareto, over_time = plots.pareto(comparison), plots.over_time(comparison)
    names = comparison["settings"]["measures"]
    names = list(MEASURE_TEXTS) if "all" in names else names
    limitations = [_measure(comparison, name) for name in LIMITATIONS if name in names]
    others = [name for name in MEASURE_TEXTS if name in names and name not in LIMITATIONS]
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
        limitations=limitations,
        others=[_measure(comparison, name) for name in others],
        not_tested=[
            inline(texts["title"])
            for name, texts in MEASURE_TEXTS.items()
            if name not in names or name in comparison["not_computed"]
        ],
        trials=narrative.trials(comparison),
        criterion=narrative.criterion(comparison),
        devices=devices(comparison),
    )  # fmt: skip
    figures = [figure for one in limitations for figure in one["figures"]]
    figures = [*([] if pareto is None else [pareto]), *over_time, *figures]
    return html, [figure for figure in figures if figure.is_drawn]


def _measure(comparison: Mapping[str, Any], name: str) -> dict[str, Any]:
    return MEASURE_TEXTS[name] | {
        "name": name,
        "figures": plots.of_measure(comparison, name),
        "table": narrative.of_measure(comparison, name),
        "reason": comparison["not_computed"].get(name, "no run is finished"),
    }
