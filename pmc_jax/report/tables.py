"""Builds the tables of the report page, with a group of columns for each run."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pmc_jax.config.schema import flatten
from pmc_jax.evaluation.quality import HEADLINE
from pmc_jax.report.narrative import comes_first, duration, measured, percent, values
from pmc_jax.report.texts import TEXTS

Run = Mapping[str, Any]
Description = Mapping[str, str]  # of a value: `text`, `better` and `unit`
COLUMNS = {
    "before": "Target model",
    "after": "Unlearned model",
    "reference": "Reference model",
}
NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """Row of a table.

    Attributes:
        name: head of the row.
        texts: cells of the row: the columns of the first run, then those of the next run.
        note: meaning of the numbers.
        better: statement of which numbers are better.
    """

    name: str
    texts: list[str]
    note: str = ""
    better: str = ""


@dataclass(frozen=True)
class Table:
    """Table of numbers.

    Attributes:
        caption: title of the table.
        heads: titles of the columns of each run.
        rows: rows of the table.
        runs: names of the runs.
        note: remark on all rows.
        footnotes: reasons for missing numbers.
    """

    caption: str
    heads: Sequence[str]
    rows: list[Row]
    runs: Sequence[str] = ("",)
    note: str = ""
    footnotes: list[str] = field(default_factory=list)


def headline(runs: Sequence[Run]) -> Table:
    """Returns the table of unlearn quality, utility and the recalls that both are computed from."""
    models = [m for m in COLUMNS if any(run["quality"][m] is not None for run in runs)]
    rows = []
    for key, texts in TEXTS["quality"].items():
        if key in HEADLINE or any(key in run["quality"]["before"]["splits"] for run in runs):
            numbers = [_quality(run["quality"][model], key) for run in runs for model in models]
            better = TEXTS["better"][texts["better"]]
            rows.append(Row(texts["name"], numbers, texts["note"], better))
    caption = "What the model leaks and what it still knows"
    return Table(caption, [COLUMNS[m] for m in models], rows, _names(runs))


def _names(runs: Sequence[Run]) -> list[str]:
    return [run["name"] for run in runs]


def _quality(quality: Mapping[str, Any] | None, key: str) -> str:
    if quality is None:
        return NOTHING
    if key in HEADLINE:
        return shown(quality[key], "points")
    return shown(quality["splits"].get(key, {}).get("rougeL_recall"), "share")


def of_measure(runs: Sequence[Run], measure: str, title: str) -> tuple[Table, Table] | None:
    """Returns the values of one measure as two tables, of which the page folds the second.

    The result is None if the measure has no values.
    """
    described: dict[str, Description] = {}
    for run in runs:
        described = (run["evaluation"] or {}).get("descriptions", {}).get(measure, {}) | described
    models = [m for m in COLUMNS if any(values(run, measure, m) for run in runs)]
    names = {name for run in runs for model in models for name in values(run, measure, model)}
    if not names:
        return None
    rows: dict[bool, list[Row]] = {True: [], False: []}
    for name in [*(n for n in described if n in names), *sorted(names - described.keys())]:
        about = described.get(name, {})
        unit = about.get("unit", "")
        texts = [shown(values(run, measure, m).get(name), unit) for run in runs for m in models]
        rows[comes_first(measure, name)].append(described_row(name, about, texts))
    if not rows[True]:
        rows = {True: rows[False], False: []}
    heads, footnotes = [COLUMNS[m] for m in models], _reasons(runs, measure, described)
    first = Table(title, heads, rows[True], _names(runs), footnotes=footnotes)
    others = Table(f"{title}: other numbers", heads, rows[False], _names(runs))
    return with_common_note(first), with_common_note(others)


def described_row(name: str, about: Description, texts: list[str]) -> Row:
    """Returns the row of a number. The head is the text of the description, or else the name."""
    text, unit = about.get("text", name), about.get("unit", "")
    note, better = TEXTS["units"].get(unit, ""), TEXTS["better"].get(about.get("better"), "")
    return Row(text[:1].upper() + text[1:], texts, note, better)


def with_common_note(table: Table) -> Table:
    """Moves the statement of which numbers are better from the rows to the note of a table.

    The table does not change if it has only one row or if its rows have different statements.
    """
    better = {row.better for row in table.rows}
    if len(table.rows) < 2 or len(better) > 1 or better == {""}:
        return table
    rows = [dataclasses.replace(row, better="") for row in table.rows]
    return dataclasses.replace(table, rows=rows, note=f"All numbers: {better.pop()}.")


def _reasons(runs: Sequence[Run], measure: str, described: Mapping[str, Description]) -> list[str]:
    """Returns a text for each reason why numbers of the unlearned model are missing.

    The text names these numbers, or counts them if there are more than three.
    """
    reasons: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, reason in (measured(run, measure, "after").get("missing") or {}).items():
            reasons.setdefault(reason, {})[described.get(name, {}).get("text", name)] = None
    return [
        f"{'; '.join(names) if len(names) < 4 else f'{len(names)} numbers'} ({reason})"
        for reason, names in reasons.items()
    ]


def times(runs: Sequence[Run]) -> Table:
    """Returns the table of the wall time of each stage."""
    rows = [
        Row(name, [duration(run["seconds"][stage]) for run in runs])
        for stage, name in TEXTS["stages"].items()
        if any(run["seconds"].get(stage) for run in runs)
    ]
    return Table("Time by stage", ["Time"], rows, _names(runs))


def shown(value: float | None, unit: str) -> str:
    """Formats a number with its unit, or returns an en dash if the number is None."""
    if value is None:
        return NOTHING
    if unit == "share":
        return percent(value)
    if unit == "points":
        return f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2g}" if unit == "p" else f"{value:.3g}"


def settings(run: Run) -> dict[str, str]:
    """Returns the value of every setting as text, by the dotted name of the setting."""
    flat = flatten(run["settings"])
    return {n: NOTHING if value in (None, {}, []) else str(value) for n, value in flat.items()}


def different_settings(runs: Sequence[Run]) -> Table | None:
    """Returns the table of the settings in which the runs differ, or None if none differs."""
    flat = [settings(run) for run in runs]
    rows = []
    for name in dict.fromkeys(name for one in flat for name in one):
        texts = [one.get(name, NOTHING) for one in flat]
        if len(set(texts)) > 1:
            rows.append(Row(name, texts))
    return Table("Settings that differ", ["Value"], rows, _names(runs)) if rows else None
