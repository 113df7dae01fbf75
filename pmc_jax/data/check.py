"""Checks the values of the columns to read, and reports all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pmc_jax.data.files import Table, json_type, one_line, raise_faults
from pmc_jax.errors import UserError, first_of


def check_values(
    table: Table, columns: Sequence[str], selected: range, *, lists: Sequence[str] = ()
) -> None:
    """Checks that the values of the selected rows are non-blank strings, or in the columns `lists`
    non-empty arrays of such strings.

    Raises:
        UserError: a column is absent or a value is invalid; one line.
    """
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(one_line("; ".join(_absent(table, name) for name in absent)))
    faults = []
    for index in selected:
        row = table.rows[index]
        for name in columns:
            if name not in row:
                faults.append(f"{table.location(index)}: no column '{name}'")
            elif fault := _list_fault(row[name]) if name in lists else _text_fault(row[name]):
                faults.append(f"{table.location(index)}: column '{name}' {fault}")
    if faults:
        raise_faults(table.name, faults)


def _text_fault(value: Any) -> str | None:
    """Why a value is not text, such as "is null, not a string"; None if it is text."""
    if not isinstance(value, str):
        return f"is {json_type(value)}, not a string"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # JSON may contain half of a surrogate pair (\\ud800); no tokenizer accepts it.
        return "has half of a surrogate pair, which is not text"
    return None if value.strip() else "is empty"


def _list_fault(value: Any) -> str | None:
    if isinstance(value, list | tuple) and value and not any(map(_text_fault, value)):
        return None
    return "must be an array of strings that are not empty"


def _absent(table: Table, name: str) -> str:
    near = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.5)
    guess = f", did you mean '{near[0]}'?" if near else ""
    return f"{table.name}: no column '{name}'{guess} (columns: {first_of(table.columns, 20)})"
