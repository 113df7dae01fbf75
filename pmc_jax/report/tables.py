"""The report's tables as the page lays them out: a group of columns a run, words for every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pmc_jax.report.words import QUALITY, duration, percent, values

Run = Mapping[str, Any]
COLUMNS = {"before": "Before", "after": "After", "reference": "Never saw the data"}
NOTHING = "–"
_BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "reference": "best near the model that never saw the data",
    "": "",
}
_HEADLINE = ("unlearn_quality", "utility")
_STAGES = {
    "finetune": "teaching the model first",
    "sample": "drawing answers",
    "score": "comparing them",
    "train": "training on them",
    "evaluate": "measuring",
    "compile": "compiling",
    "other": "loading, saving, the rest",
    "total": "in all",
}


@dataclass(frozen=True)
class Row:
    """One row: its name, what it means, its cells, a group a run."""

    name: str
    note: str
    cells: list[list[str]]
    better: str = ""


@dataclass(frozen=True)
class Table:
    """A table of numbers.

    Attributes:
        caption: what it holds.
        groups: name of a run -> its column heads.
        footnotes: why cells are empty.
    """

    caption: str
    groups: list[tuple[str, list[str]]]
    rows: list[Row]
    footnotes: list[str] = field(default_factory=list)


def headline(runs: Sequence[Run]) -> Table:
    """Unlearn quality, utility, and the recalls that they come from."""
    models = [m for m in COLUMNS if any(run["quality"][m] is not None for run in runs)]
    splits = [name for name in QUALITY if name not in _HEADLINE]
    there = {name for run in runs for name in run["quality"]["before"]["splits"]}
    rows = []
    for key, (name, better, note) in QUALITY.items():
        if key in splits and key not in there:
            continue
        cells = [[_quality(run["quality"][model], key) for model in models] for run in runs]
        rows.append(Row(name, note, cells, _BETTER[better]))
    heads = [COLUMNS[model] for model in models]
    caption = "What the model tells and what it still knows"
    return Table(caption, [(run["name"], heads) for run in runs], rows)


def _quality(quality: Mapping[str, Any] | None, key: str) -> str:
    if quality is None:
        return NOTHING
    if key in _HEADLINE:
        return shown(quality[key], "points")
    return shown(quality["splits"].get(key, {}).get("rougeL_recall"), "share")


def of_measure(runs: Sequence[Run], measure: str, title: str) -> Table | None:
    """All values of one measure; None where no run has any."""
    evaluations = [run["evaluation"] or {} for run in runs]
    labels: dict[str, Any] = {}
    for evaluation in evaluations:
        labels = evaluation.get("labels", {}).get(measure, {}) | labels
    models = [m for m in COLUMNS if any(values(run, measure, m) for run in runs)]
    names = dict.fromkeys(n for run in runs for m in models for n in values(run, measure, m))
    if not names:
        return None
    rows = []
    for name in names:
        label = labels.get(name, {})
        unit = label.get("unit", "")
        cells = [[shown(values(run, measure, m).get(name), unit) for m in models] for run in runs]
        rows.append(
            Row(label.get("text", name), _note(unit), cells, _BETTER[label.get("better", "")])
        )
    heads = [COLUMNS[model] for model in models]
    return Table(title, [(run["name"], heads) for run in runs], rows, _reasons(runs, measure))


def _reasons(runs: Sequence[Run], measure: str) -> list[str]:
    """Why values are missing, each reason once."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        measured = (run["evaluation"] or {}).get("measures", {}).get(measure, {})
        for model in COLUMNS:
            for name, reason in ((measured.get(model) or {}).get("missing") or {}).items():
                names = reasons.setdefault(reason, [])
                names += [name] if name not in names else []
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def times(runs: Sequence[Run]) -> Table:
    """Seconds by stage."""
    rows = [
        Row(name, "", [[duration(run["seconds"][stage])] for run in runs])
        for stage, name in _STAGES.items()
        if any(run["seconds"].get(stage) for run in runs)
    ]
    groups = [(run["name"], ["Time"]) for run in runs]
    return Table("Where the time went", groups, rows)


def shown(value: float | None, unit: str) -> str:
    """A number as people read it."""
    if value is None:
        return NOTHING
    if unit == "share":
        return percent(value)
    if unit == "points":
        return f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2g}" if unit == "p" else f"{value:.3g}"


def _note(unit: str) -> str:
    return {"p": "a probability", "nats": "nats", "points": "0 to 100"}.get(unit, "")


def settings(run: Run) -> dict[str, str]:
    """Dotted name -> value of every setting."""
    return dict(_flat(run["settings"], ""))


def _flat(tree: Mapping[str, Any], start: str) -> list[tuple[str, str]]:
    found = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{start}{key}.")
        else:
            found.append((f"{start}{key}", NOTHING if value in (None, {}, []) else str(value)))
    return found


def different_settings(runs: Sequence[Run]) -> Table | None:
    """The settings in which runs differ."""
    flat = [settings(run) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [
        Row(name, "", [[one.get(name, NOTHING)] for one in flat])
        for name in names
        if len({one.get(name, NOTHING) for one in flat}) > 1
    ]
    groups = [(run["name"], ["Value"]) for run in runs]
    return Table("Settings that differ", groups, rows) if rows else None
