"""Reads a file of rows (JSON Lines, JSON, CSV, Parquet) into a `Table` of unchecked values.

It reports all faults of a file's format; `check` reports faults of the values. Values keep their
whitespace and newlines exactly.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pmc_jax.errors import UserError, system_errors

_MAX_FAULTS = 5


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a source with unchecked values.

    Args:
        name: name of the source in messages (a file's path, "tfds:tofu/forget10", ...).
        columns: names of the columns that occur in at least one row, in order of appearance.
        rows: one mapping per row, from column name to value; a row may lack columns.
        lines: line number of each row, from 1; empty if the source has no lines.

    Raises:
        UserError: the source has no rows.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    lines: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise UserError(f"{self.name}: no rows")

    def location(self, index: int) -> str:
        """The name of row `index` (0-based) in messages."""
        return f"line {self.lines[index]}" if self.lines else row_location(index)


def table_of(
    name: str,
    rows: Sequence[dict[str, Any]],
    lines: Sequence[int] = (),
    faults: Sequence[str] = (),
) -> Table:
    """Builds a table with the columns of its rows.

    Raises:
        UserError: `faults` is not empty, or there are no rows.
    """
    if faults:
        raise_faults(name, faults)
    columns = dict.fromkeys(column for row in rows for column in row)
    return Table(name, tuple(columns), tuple(rows), tuple(lines))


def raise_faults(name: str, faults: Sequence[str]) -> NoReturn:
    """Raises one error with a source and its first five faults.

    Args:
        name: name of the source.
        faults: at least one fault, each "LOCATION: what is wrong".

    Raises:
        UserError: always.
    """
    shown = "; ".join(faults[:_MAX_FAULTS])
    more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
    raise UserError(one_line(f"{name}, {shown}{more}"))


def one_line(text: object) -> str:
    """A message without line breaks, which names from a file may contain."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def row_location(index: int) -> str:
    """The name of row `index` (0-based) in messages, for a source without lines."""
    return f"row {index} (from 0)"


def read_table(path: Path, columns: Sequence[str]) -> Table:
    """Reads a file in the format of its suffix.

    Args:
        path: an existing file.
        columns: names of the columns to keep; Parquet files are read without the others.

    Returns:
        The table. Its `columns` are all columns of the file, including those not kept.

    Raises:
        UserError: unknown suffix, not UTF-8, a row that cannot be parsed or is not an object, a
            repeated name in a CSV header, or an unreadable file; one line with the first faults.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        suffixes = ", ".join(_READERS)
        raise UserError(
            f"{path}: unknown suffix '{path.suffix}'; a file of rows is one of {suffixes}"
        )
    with system_errors(f"{path}: cannot be read"):
        table = reader(path, columns)
    rows = tuple({k: v for k, v in row.items() if k in columns} for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def _read_json(path: Path, columns: Sequence[str]) -> Table:
    """Reads JSON Lines, or one JSON array of objects in a .json file."""
    text = _read_text(path)
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        return _read_json_array(path, text)
    rows, lines, faults = [], [], []
    # Only "\n" ends a line: str.splitlines would also cut at U+2028 inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        value, fault = _parse_json(line)
        fault = fault or _row_fault(value)
        if fault:
            faults.append(f"line {number}: {fault}")
        else:
            rows.append(value)
            lines.append(number)
    return table_of(str(path), rows, lines, faults)


def _read_json_array(path: Path, text: str) -> Table:
    values, fault = _parse_json(text)
    if fault is not None:
        raise UserError(f"{path}, {fault}")
    faults = [
        f"{row_location(index)}: {fault}"
        for index, value in enumerate(values)
        if (fault := _row_fault(value))
    ]
    return table_of(str(path), values, faults=faults)


def _read_csv(path: Path, columns: Sequence[str]) -> Table:
    """Reads comma-separated values with a header line; quotes may span lines (RFC 4180)."""
    # newline="" keeps line ends inside quotes unchanged.
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header: list[str] | None = None
    rows, lines, faults = [], [], []
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            # After a broken quote the reader cannot tell where rows start.
            faults.append(f"line {number}: not CSV ({error})")
            break
        if fields is None:
            break
        if not fields:
            continue
        if header is None:
            header = fields
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise_faults(str(path), [f"line {number}: the header names '{repeated[0]}' twice"])
        elif len(fields) != len(header):
            count = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
            faults.append(f"line {number}: {count}, but the header has {len(header)}; quote commas")
        else:
            rows.append(dict(zip(header, fields, strict=True)))
            lines.append(number)
    return table_of(str(path), rows, lines, faults)


def _read_parquet(path: Path, columns: Sequence[str]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            rows = file.read(columns=[name for name in columns if name in names]).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({one_line(error)})") from error
    return Table(str(path), names, tuple(rows))


_READERS: dict[str, Callable[[Path, Sequence[str]], Table]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_text(path: Path) -> str:
    """The text of a UTF-8 file without its byte order mark; line ends are unchanged."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UserError(f"{path}, line {line}: not UTF-8 ({byte}); save it as UTF-8") from error


def _parse_json(text: str) -> tuple[Any, str | None]:
    """The value and None, or None and the fault."""
    try:
        return json.loads(text), None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: " if "\n" in text else ""
        return None, f"{where}not valid JSON ({error.msg} at column {error.colno})"
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or brackets nested thousands deep.
        return None, f"not readable JSON ({one_line(error)})"


def _row_fault(value: Any) -> str | None:
    if isinstance(value, dict):
        return None
    return f'a row must be an object such as {{"question": ...}}, not {json_type(value)}'


def json_type(value: Any) -> str:
    """The JSON name of the type of a value, for messages."""
    names = {
        dict: "an object",
        list: "an array",
        tuple: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
