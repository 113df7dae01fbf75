"""Renders the dictionary that `collect` returns as `report.html`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.figure import LIGHT
from pmc_jax.report import distributions, methods, narrative, plots, tables
from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

MARK = '<meta name="generator" content="pmc_jax report">'  # identifies pages of pmc

_SIDE_EFFECTS = ("side_effects", "perplexity")
_FORGOTTEN = tuple(name for name in MEASURE_TEXTS if name not in _SIDE_EFFECTS)


@functools.cache
def environment() -> jinja2.Environment:
    """Returns the Jinja environment of the page templates."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("pmc_jax.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.globals["light"] = LIGHT
    templates.filters |= {
        "percent": lambda share: tables.shown(share, "share"),
        "drawing": Markup,  # `Figure.svg` has escaped its texts
        "lead": lambda sentence: sentence.partition(": "),  # splits findings of a comparison
    }
    return templates


def render(report: Mapping[str, Any]) -> str:
    """Renders the HTML page of a report as one file without scripts or external resources."""
    runs = report["runs"]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            mark=Markup(MARK),
            report=report,
            runs=runs,
            title=", ".join(run["name"] for run in runs),
            # Several runs are compared, and need not all answer a request.
            requests=[run for run in runs if len(runs) == 1 or any(run["request"].values())],
            headline=tables.headline(runs),
            removed=plots.removed(runs),
            cost=plots.cost(runs),
            times=tables.times(runs),
            side_effects=_measures(runs, _SIDE_EFFECTS),
            attacks=_measures(runs, _FORGOTTEN),
            definitions=TEXTS["definitions"],
            level_text=narrative.level_text,
            untested=narrative.untested,
            has_text=any("final" in question for run in runs for question in run["questions"]),
            different=tables.different_settings(runs) if len(runs) > 1 else None,
            settings=tables.settings,
            models=_models,
            devices=narrative.devices,
            methods=list(dict.fromkeys(methods.label(run) for run in runs)),
            sampling=[run for run in runs if methods.samples(run)],
        )
    )


def _measures(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    sections = []
    for name in names:
        texts = MEASURE_TEXTS[name]
        numbers = tables.of_measure(runs, name, texts["title"])
        figures = distributions.of_measure(runs, name)
        if numbers or figures:
            table, others = numbers or (None, None)
            section = {"id": name, "figures": figures, "table": table, "others": others}
            sections.append(texts | section)
    return sections


def _models(run: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """Returns lists of (name, path, SHA-256) by title: what a run read, wrote and evaluated."""
    digests = run["digests"]
    files = [(n, source["path"], source["sha256"]) for n, source in digests["inputs"].items()]
    rows = [(name, "", sha) for name, sha in digests["data"].items() if name != "model"]
    own = (f"{run_files.MODEL}/", f"{run_files.ADAPTER}/")
    written = [("", name, sha) for name, sha in digests["outputs"].items()]
    models = [row for row in written if row[1].startswith(own)]
    measured = ((run["evaluation"] or {}).get("models") or {}).items()
    return {
        "Input model and data": files,
        "Rows of data": rows,
        "Output model": models,
        "Evaluated models": [
            (name, str(m.get("path", "")), str(m.get("sha256", ""))) for name, m in measured if m
        ],
    }
