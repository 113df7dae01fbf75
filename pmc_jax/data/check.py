"""Checks the values in the columns of a source and reports all faults in one error."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pmc_jax.data.files import Table, json_type, one_line, raise_faults
from pmc_jax.errors import UserError, first_of


def check_values(
    table: Table, columns: Sequence[str], selected: range, *, lists: Sequence[str] = ()
) -> None:
    """Checks that every value of the selected rows is a string with text.

    Args:
        table: the rows of one source.
        columns: names of the columns to check.
        selected: indices of the rows to check.
        lists: names of the columns whose values are non-empty arrays of such strings instead.

    Raises:
        UserError: a column is absent or a value is invalid. The message is one line.
    """
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(one_line(" ".join(_absent(table, name) for name in absent)))
    faults = []
    for index in selected:
        row = table.rows[index]
        for name in columns:
            if name not in row:
                faults.append(f"{table.location(index)}: the column '{name}' is missing")
            elif fault := _list_fault(row[name]) if name in lists else _text_fault(row[name]):
                faults.append(f"{table.location(index)}: the value in column '{name}' {fault}")
    if faults:
        raise_faults(table.name, faults)


def _text_fault(value: Any) -> str | None:
    """Returns what is wrong with a value, such as "is null, not a string", or None for text."""
    if not isinstance(value, str):
        return f"is {json_type(value)}, not a string"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # JSON may contain half of a surrogate pair (\\ud800), which no tokenizer accepts.
        return "contains half of a surrogate pair, which is not valid text"
    return None if value.strip() else "is empty"


def _list_fault(value: Any) -> str | None:
    if isinstance(value, list | tuple) and value and not any(map(_text_fault, value)):
        return None
    return "must be an array of strings that are not empty"


def _absent(table: Table, name: str) -> str:
    near = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.5)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    return (
        f"{table.name}: the column '{name}' does not exist.{guess} Use one of these columns: "
        f"{first_of(table.columns, 20)}."
    )
