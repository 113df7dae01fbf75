"""The report's tables as the page lays them out: a group of columns a run, words for every row."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pmc_jax.report.narrative import QUALITY, comes_first, duration, percent, values

Run = Mapping[str, Any]
COLUMNS = {"before": "Before", "after": "After", "reference": "Never saw the data"}
NOTHING = "–"
_BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "up to reference": "higher is better, up to a model that never saw the data",
    "down to reference": "lower is better, down to a model that never saw the data",
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
        note: what holds for all rows.
        footnotes: why cells are empty.
    """

    caption: str
    groups: list[tuple[str, list[str]]]
    rows: list[Row]
    note: str = ""
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


def of_measure(runs: Sequence[Run], measure: str, title: str) -> tuple[Table, Table] | None:
    """The values of one measure: those that are shown at once, and all the others.

    None where no run has any.
    """
    labels: dict[str, Any] = {}
    for run in runs:
        labels = (run["evaluation"] or {}).get("descriptions", {}).get(measure, {}) | labels
    models = [m for m in COLUMNS if any(values(run, measure, m) for run in runs)]
    there = {n for run in runs for m in models for n in values(run, measure, m)}
    names = [*(n for n in labels if n in there), *sorted(there - labels.keys())]
    if not names:
        return None
    rows: dict[bool, list[Row]] = {True: [], False: []}
    for name in names:
        label = labels.get(name, {})
        unit = label.get("unit", "")
        cells = [[shown(values(run, measure, m).get(name), unit) for m in models] for run in runs]
        rows[comes_first(measure, name)].append(labelled(name, label, cells))
    groups = [(run["name"], [COLUMNS[model] for model in models]) for run in runs]
    if not rows[True]:
        rows = {True: rows[False], False: []}
    first = table_of(title, groups, rows[True], _reasons(runs, measure, labels))
    return first, table_of(f"{title}: other numbers", groups, rows[False], [])


def labelled(name: str, label: Mapping[str, str], cells: list[list[str]]) -> Row:
    """The row of a value, in the words of its label where there is one."""
    better = _BETTER[label.get("better", "")]
    return Row(_capital(label.get("text", name)), _note(label.get("unit", "")), cells, better)


def table_of(caption, groups, rows: list[Row], footnotes: list[str]) -> Table:
    """A table that says once what it would say in every row."""
    better = {row.better for row in rows}
    if len(rows) < 2 or len(better) > 1 or better == {""}:
        return Table(caption, groups, rows, "", footnotes)
    rows = [dataclasses.replace(row, better="") for row in rows]
    return Table(caption, groups, rows, f"All numbers: {better.pop()}.", footnotes)


def _reasons(runs: Sequence[Run], measure: str, labels: Mapping[str, Any]) -> list[str]:
    """Why numbers of the model after unlearning are missing, each reason once."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        measured = (run["evaluation"] or {}).get("measures", {}).get(measure, {})
        for name, reason in ((measured.get("after") or {}).get("missing") or {}).items():
            text = labels.get(name, {}).get("text", name)
            names = reasons.setdefault(reason, [])
            names += [text] if text not in names else []
    return [
        f"{'; '.join(names) if len(names) < 4 else f'{len(names)} numbers'} ({reason})"
        for reason, names in reasons.items()
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
