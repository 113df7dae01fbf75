"""Checks the values of the columns that are read, and reports all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pmc_jax.data.files import Table, one_line, raise_faults, text_fault
from pmc_jax.errors import UserError, first_of


def check_values(
    table: Table, columns: Sequence[str], selected: range, *, lists: Sequence[str] = ()
) -> None:
    """Checks that the values of the selected rows are strings that are not blank; in the columns
    `lists` arrays of such strings.

    Raises:
        UserError: absent columns, or values that are not so; one line.
    """
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(one_line("; ".join(_absent(table, name) for name in absent)))
    faults = []
    for index in selected:
        row = table.rows[index]
        for name in columns:
            if name not in row:
                fault = f"no column '{name}'"
            elif name in lists:
                if _is_list(row[name]):
                    continue
                fault = f"column '{name}' must be an array of strings that are not empty"
            elif (problem := text_fault(row[name])) is not None:
                fault = f"column '{name}' {problem}"
            elif not row[name].strip():
                fault = f"column '{name}' is empty"
            else:
                continue
            faults.append(f"{table.locations[index]}: {fault}")
    if faults:
        raise_faults(table.name, faults)


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(text_fault(text) is None and text.strip() for text in value)
    )


def _absent(table: Table, name: str) -> str:
    near = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.5)
    guess = f", did you mean '{near[0]}'?" if near else ""
    return f"{table.name}: no column '{name}'{guess} (columns: {first_of(table.columns, 20)})"
