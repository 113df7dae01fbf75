"""Draws the figures of a comparison.

The figures show unlearn quality against utility, both numbers over time, and the distributions of
the measures `sampling`, `prefill`, `multiple_choice` and `side_effects`.
"""

from collections.abc import Mapping
from typing import Any

from pmc_jax.artifacts.figure import RUN_COLOURS, Figure, Level, Line, Panel, spread_band
from pmc_jax.compare.narrative import Comparison, format_mean_std, measured
from pmc_jax.report import distributions
from pmc_jax.report.plots import line, run_style

_MARKERS = "os^DvPh<>p"
_TITLES = {"unlearn_quality": "Unlearn quality", "utility": "Utility"}


def _styles(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Returns the label, colour, dash and marker of each entry."""
    entries = measured(comparison)
    runs = [{"name": entry["label"]} for entry in entries]
    return {
        entry["name"]: run_style(runs, i, entry["label"])
        | {"colour": f"run{i % RUN_COLOURS + 1}", "marker": _MARKERS[i % len(_MARKERS)]}
        for i, entry in enumerate(entries)
    }


def _both(values: Mapping[str, Any]) -> tuple[Any, Any]:
    return values["unlearn_quality"], values["utility"]


def pareto(comparison: Comparison) -> Figure | None:
    """Draws unlearn quality against utility, or returns None if no run is finished."""
    entries, styles = measured(comparison), _styles(comparison)
    if not entries:
        return None
    runs = {run["name"]: _both(run["values"]) for run in comparison["runs"]}
    means, seeds, texts = {}, [], []
    for entry in entries:
        style, (x, y) = styles[entry["name"]] | {"dash": "none"}, _both(entry["values"])
        errors = None if x["std"] is None else (x["std"], y["std"])
        means[entry["name"]] = line([(x["mean"], y["mean"])], size=9.0, errors=errors, **style)
        small = style | {"label": "", "size": 4.5, "alpha": 0.45}
        seeds.append(line([runs[name] for name in entry["runs"]], **small))
        quality, utility = (format_mean_std(one, "points") for one in (x, y))
        texts.append(f"{entry['label']} {quality} and {utility}")
    models, layers = comparison["models"], []
    for name, label, marker in (
        ("target", "before unlearning", "X"),
        ("reference", "never saw the data", "*"),
    ):
        if models[name] is not None:
            point = _both(models[name]["values"])
            style = {"label": label, "colour": "ink", "dash": "none", "marker": marker}
            layers.append(line([point], size=9.0, **style))
    best = [_both(e["values"]) for n in comparison["front"] for e in entries if e["name"] == n]
    front = line([(x["mean"], y["mean"]) for x, y in best], label="", colour="muted", width=1.2)
    beyond = ""
    if models["reference"] is not None:
        level = models["reference"]["values"]["unlearn_quality"]
        layers.append(Level(level, "muted", vertical=True))
        beyond = " Points to the right of the dashed line show over-forgetting."
    marks = "Large marks are means with standard deviations, small marks are single seeds. "
    caption = (
        "Points further up and to the right are better. "
        f"{marks if len(comparison['seeds']) > 1 else ''}The thin line joins the methods "
        f"with the best trade-offs, which the summary names.{beyond}"
    )
    layers = [front, *seeds, *means.values(), *layers]
    return Figure(
        "pareto",
        "Unlearn quality against utility",
        caption,
        [Panel(layers, "unlearn quality", "utility", bounds=None)],
        alt=f"Unlearn quality and utility: {'; '.join(texts)}.",
        size=(420, 340),
    )


def over_time(comparison: Comparison) -> list[Figure]:
    """Draws unlearn quality and utility over the minutes of unlearning."""
    if not measured(comparison):
        return []
    return [_over_time(comparison, key, title) for key, title in _TITLES.items()]


def _over_time(comparison: Comparison, key: str, title: str) -> Figure:
    start, styles = comparison["models"]["target"]["values"][key], _styles(comparison)
    lines: list[Line] = []
    bands, ends = [], []
    for entry in measured(comparison):
        points = [point for point in entry["curve"] if key in point]
        minutes = [0.0, *(point["seconds"]["mean"] / 60 for point in points)]
        means = [start, *(point[key]["mean"] for point in points)]
        spread = [0.0, *(point[key]["std"] or 0.0 for point in points)]
        lines.append(Line(x=minutes, y=means, **styles[entry["name"]]))
        if any(spread):
            bands.append(spread_band(minutes, means, spread, lines[-1].colour))
        ends.append(f"{entry['label']} {means[-1]:.1f}")
    levels, level = [], ""
    if (reference := comparison["models"]["reference"]) is not None:
        levels = [Level(reference["values"][key], "ink", label="never saw the data")]
        level = f"; {levels[0].value:.1f} for a model that never saw the data"
    several = ", means over seeds" if len(comparison["seeds"]) > 1 else ""
    last = [f"{end:.1f}" for end in sorted(one.x[-1] for one in lines)]
    text = (
        f"{title} over the time of unlearning{several}: from {start:.1f} to {', '.join(ends)} "
        f"after {' to '.join(dict.fromkeys((last[0], last[-1])))} minutes{level}."
    )
    caption = f"{text} The band is the standard deviation over seeds." if bands else text
    low = min(value for one in lines for value in one.y)
    panel = Panel(
        [*bands, *lines, *levels],
        "minutes of sampling, scoring and training",
        title.lower(),
        bounds=(max(0, 10 * (low // 10) - 5), 102),
    )
    return Figure(key, f"{title} over time", caption, [panel], alt=text)


def of_measure(comparison: Comparison, measure: str) -> list[Figure]:
    """Draws the distributions of one measure. The figures pool all seeds of a method."""
    return distributions.of_measure(_as_runs(comparison), measure)


def _as_runs(comparison: Comparison) -> list[dict[str, Any]]:
    """Converts entries of the comparison to runs of a report, which `distributions` can read."""
    target, reference = (comparison["models"][name] for name in ("target", "reference"))
    runs = []
    for entry in measured(comparison):
        means = {
            measure: {name: one["mean"] for name, one in values.items()}
            for measure, values in entry["measures"].items()
        }
        after = {"measures": means, "series": entry["series"]}
        models = {"before": target, "after": after, "reference": reference}
        measures = {
            measure: {
                name: {
                    "values": model["measures"].get(measure, {}),
                    "series": model["series"].get(measure, {}),
                }
                for name, model in models.items()
                if model is not None
            }
            for measure in entry["measures"]
        }
        evaluation = {"measures": measures, "settings": comparison["evaluation"]}
        runs.append({"name": entry["label"], "evaluation": evaluation})
    return runs
