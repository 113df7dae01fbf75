"""Drawings of a comparison: quality against utility, both over time, the four limitations."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.compare.narrative import Comparison, measured, told
from pmc_jax.report import distributions, svg
from pmc_jax.report.plots import Plot, look_of
from pmc_jax.report.svg import Line, Mark, curves, scatter

_MARKS = "os^DvPh<>p"
_TITLES = {"unlearn_quality": "Unlearn quality", "utility": "Utility"}


def looks(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Entry -> label, colour, dash and mark, the same in all drawings."""
    runs = [{"name": entry["label"]} for entry in measured(comparison)]
    found = {}
    for i, entry in enumerate(measured(comparison)):
        look = look_of(runs, i) | {"label": entry["label"], "colour": f"run{i % svg.RUNS + 1}"}
        found[entry["name"]] = look | {"mark": _MARKS[i % len(_MARKS)]}
    return found


def pareto(comparison: Comparison) -> Plot | None:
    """Unlearn quality against utility."""
    entries, runs = measured(comparison), {c["name"]: c["values"] for c in comparison["runs"]}
    if not entries:
        return None
    marks = []
    for entry in entries:
        look = {k: looks(comparison)[entry["name"]][k] for k in ("label", "colour", "mark")}
        x, y = (entry["values"][key] for key in _TITLES)
        spread = None if x["std"] is None else (x["std"], y["std"])
        others = [tuple(runs[name][key] for key in _TITLES) for name in entry["runs"]]
        marks.append(Mark(x=x["mean"], y=y["mean"], spread=spread, others=others, **look))
    models = comparison["models"]
    for name, label, mark in (
        ("target", "before unlearning", "X"),
        ("reference", "never saw the data", "*"),
    ):
        if models[name] is not None:
            x, y = (models[name]["values"][key] for key in _TITLES)
            marks.append(Mark(label, x, y, "ink", mark))
    by_name = {entry["name"]: entry for entry in entries}
    path = [
        tuple(by_name[name]["values"][key]["mean"] for key in _TITLES)
        for name in comparison["front"]
    ]
    reference = models["reference"]
    level = None if reference is None else (reference["values"]["unlearn_quality"], "muted")
    said = "; ".join(
        f"{e['label']} {told(e['values']['unlearn_quality'], 'points')} and "
        f"{told(e['values']['utility'], 'points')}"
        for e in entries
    )
    beyond = "" if level is None else " Right of the dashed line is over-forgetting."
    several = "Large marks are means with their deviations, small ones single seeds; the"
    reading = (
        f"Up and to the right is better. {several if len(comparison['seeds']) > 1 else 'The'} thin "
        f"line joins the methods that no other beats in both.{beyond}"
    )
    drawing = scatter(
        "plot-pareto", marks, x="unlearn quality", y="utility", path=path, level=level,
        alt=f"Unlearn quality and utility: {said}.",
    )  # fmt: skip
    return Plot("figure-pareto", "Unlearn quality against utility", drawing, reading)


def over_time(comparison: Comparison) -> list[Plot]:
    """Unlearn quality and utility over the minutes of unlearning."""
    if not measured(comparison):
        return []
    return [_over_time(comparison, key, title) for key, title in _TITLES.items()]


def _over_time(comparison: Comparison, key: str, title: str) -> Plot:
    start = comparison["models"]["target"]["values"][key]
    lines, ends, minutes = [], [], []
    for entry in measured(comparison):
        points = [point for point in entry["curve"] if key in point]
        x = [0.0, *(point["seconds"]["mean"] / 60 for point in points)]
        y = [start, *(point[key]["mean"] for point in points)]
        spread = [0.0, *(point[key]["std"] or 0.0 for point in points)]
        look = looks(comparison)[entry["name"]]
        lines.append(Line(x=x, y=y, spread=spread if any(spread) else (), points=True, **look))
        ends.append(f"{entry['label']} {y[-1]:.1f}")
        minutes.append(f"{x[-1]:.1f}")
    reference = comparison["models"]["reference"]
    levels = [] if reference is None else [(reference["values"][key], "ink")]
    if levels:
        lines.append(Line("never saw the data", [], [], "ink", "dashed"))
    several = ", means over seeds" if len(comparison["seeds"]) > 1 else ""
    several += " with their deviation as a band" if any(line.spread for line in lines) else ""
    level = f"; {levels[0][0]:.1f} in a model that never saw the data" if levels else ""
    after = " to ".join(dict.fromkeys((min(minutes, key=float), max(minutes, key=float))))
    text = f"{title} over the time of unlearning{several}: from {start:.1f} to "
    text += f"{', '.join(ends)} after {after} minutes{level}."
    low = min(value for line in lines for value in line.y)
    drawing = curves(
        f"plot-{key}", lines, x="minutes of sampling, scoring and training", y=title.lower(),
        alt=text, bounds=(max(0, 10 * (low // 10) - 5), 102), levels=levels,
    )  # fmt: skip
    return Plot(f"figure-{key}", f"{title} over time", drawing, text)


def of_measure(comparison: Comparison, measure: str) -> list[Plot]:
    """Those of one limitation, all seeds of a method together."""
    return distributions.of_measure(_runs(comparison), measure)


def _runs(comparison: Comparison) -> list[dict[str, Any]]:
    """The entries as runs that ended, as far as drawings of distributions look at them."""
    models = comparison["models"]
    runs = []
    for entry in measured(comparison):
        means = {
            measure: {name: one["mean"] for name, one in values.items()}
            for measure, values in entry["measures"].items()
        }
        by_model: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
            "before": (models["target"]["measures"], models["target"]["series"]),
            "after": (means, entry["series"]),
        }
        if models["reference"] is not None:
            by_model["reference"] = models["reference"]["measures"], models["reference"]["series"]
        measures = {
            measure: {
                model: {"values": values.get(measure, {}), "series": series.get(measure, {})}
                for model, (values, series) in by_model.items()
            }
            for measure in entry["measures"]
        }
        evaluation = {"measures": measures, "settings": comparison["evaluation"]}
        runs.append({"name": entry["label"], "evaluation": evaluation})
    return runs


def files(plots: Sequence[Plot]) -> dict[str, bytes]:
    """File name -> PNG of each drawing."""
    return {f"{plot.id.removeprefix('figure-')}.png": plot.drawing.png() for plot in plots}
