"""Reads a file of rows (JSON Lines, JSON, CSV, TSV, Parquet) into a `Table` of unchecked values.

This module reports faults of a file's format, and `check` reports faults of the values. White space
and line breaks in values are unchanged.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pmc_jax.config import reading
from pmc_jax.data.delimiters import NAMES, find_delimiter, split_hint, undivided
from pmc_jax.errors import UserError, system_errors

_MAX_FAULTS = 5
_FIX = "Use a regular file of at most 1 GiB that you may read."


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a source, before validation.

    Args:
        name: name of the source in messages, such as a file's path or "tfds:tofu/forget10".
        columns: names of the columns of the source, in order of appearance.
        rows: one mapping per row, from column name to value. A row may lack columns.
        lines: line number of each row, counted from 1. The sequence is empty if the source is not
            read line by line.

    Raises:
        UserError: the source has no rows.
    """

    name: str
    columns: tuple[str, ...] = dataclasses.field(repr=False)
    rows: tuple[dict[str, Any], ...] = dataclasses.field(repr=False)
    lines: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.rows:
            raise UserError(f"{self.name}: the source has no rows. Add at least one row.")

    def location(self, index: int) -> str:
        """Returns how messages refer to a row, such as "line 2".

        Args:
            index: index of the row, counted from 0.
        """
        return f"line {self.lines[index]}" if self.lines else row_location(index)


def table_of(
    name: str,
    rows: Sequence[dict[str, Any]],
    lines: Sequence[int] = (),
    faults: Sequence[str] = (),
) -> Table:
    """Builds a table that has every column of its rows.

    Args:
        name: name of the source in messages.
        rows: one mapping per row, from column name to value.
        lines: line number of each row, counted from 1. The sequence is empty if the source is not
            read line by line.
        faults: faults of the source, each as "LOCATION: what is wrong".

    Raises:
        UserError: `faults` is not empty, or there are no rows.
    """
    if faults:
        raise_faults(name, faults)
    columns = dict.fromkeys(column for row in rows for column in row)
    return Table(name, tuple(columns), tuple(rows), tuple(lines))


def raise_faults(name: str, faults: Sequence[str]) -> NoReturn:
    """Raises one error that names a source and its first five faults.

    Args:
        name: name of the source.
        faults: at least one fault, each as "LOCATION: what is wrong".

    Raises:
        UserError: always.
    """
    shown = "; ".join(faults[:_MAX_FAULTS])
    more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
    is_one = len({fault.partition(":")[0] for fault in faults}) == 1
    fix = "Correct this row." if is_one else "Correct these rows."
    raise UserError(one_line(f"{name}, {shown}{more}. {fix}"))


def one_line(text: object) -> str:
    """Returns a text on one line, because names from a file may contain line breaks."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def row_location(index: int) -> str:
    """Returns the location of a row that has no line number: "row INDEX (counted from 0)"."""
    return f"row {index} (counted from 0)"


def read_table(path: Path, columns: Sequence[str]) -> Table:
    """Reads a file of rows. The suffix of the file decides its format.

    Args:
        path: an existing file.
        columns: names of the columns to keep. Other columns of a Parquet file are not read.

    Returns:
        The table. `Table.columns` names all columns of the file, even if their values are not kept.

    Raises:
        UserError: the suffix is unknown, the file cannot be read or is not UTF-8, a row cannot be
            parsed or is not an object, a column name is repeated, or there are no rows. The message
            is one line with the first faults.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        suffixes = ", ".join(_READERS)
        raise UserError(
            f"{path}: the suffix '{path.suffix}' is unknown. Use a file with one of these "
            f"suffixes: {suffixes}."
        )
    with system_errors(f"{path}: the file cannot be read", _FIX):
        table = reader(path, columns)
    rows = tuple({k: v for k, v in row.items() if k in columns} for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def _read_json(path: Path, columns: Sequence[str]) -> Table:
    """Reads a file of JSON Lines, or a .json file with one array of objects."""
    text = _read_text(path)
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        return _read_json_array(path, text)
    rows, lines, faults = [], [], []
    # Only "\n" ends a line. `str.splitlines` would also split at U+2028 inside a string.
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
        raise UserError(f"{path}, {fault}. Correct the file.")
    faults = [
        f"{row_location(index)}: {fault}"
        for index, value in enumerate(values)
        if (fault := _row_fault(value))
    ]
    return table_of(str(path), values, faults=faults)


def _read_csv(path: Path, columns: Sequence[str]) -> Table:
    """Reads separated values with a header line. Quoted values may span lines (RFC 4180)."""
    default = "\t" if path.suffix.lower() == ".tsv" else ","
    whole = _read_text(path)
    text, hint = split_hint(whole)
    delimiter = hint or find_delimiter(text, columns, default)
    first_line = 1 if text is whole else 2
    # newline="" keeps line ends inside quotes unchanged.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    rows, lines, faults = [], [], []
    while True:
        number = reader.line_num + first_line
        try:
            fields = next(reader, None)
        except csv.Error as error:
            # The reader cannot tell where rows start after a broken quote.
            faults.append(f"line {number}: the row is not valid CSV ({error})")
            break
        if fields is None:
            break
        if not fields:
            continue
        if header is None:
            header = fields
            if repeated := _repeated(header):
                raise_faults(str(path), [f"line {number}: {repeated}"])
        elif fault := _width_fault(len(fields), len(header), delimiter):
            faults.append(f"line {number}: {fault}")
        else:
            rows.append(dict(zip(header, fields, strict=True)))
            lines.append(number)
    if header is not None and len(header) == 1 and not faults and (other := undivided(text)):
        raise UserError(
            f"{path}: the first line names one column, but {NAMES[other]} divide the rows below. "
            "Write the name of every column in the first line, or quote values that contain such "
            "characters."
        )
    return table_of(str(path), rows, lines, faults)


def _width_fault(count: int, expected: int, delimiter: str) -> str | None:
    """Returns what is wrong with the number of values in a row, or None if the number is right.

    Args:
        count: number of values in the row.
        expected: number of names in the header.
        delimiter: delimiter of the file.
    """
    if count == expected:
        return None
    name = NAMES.get(delimiter, "the separator")
    values = f"{count} value{'s' if count > 1 else ''}"
    hint = f" (quote values that contain {name})" if count > expected else ""
    return f"the row has {values}, but the header has {expected}{hint}"


def _read_parquet(path: Path, columns: Sequence[str]) -> Table:
    from pmc_jax.data.parquet import read_parquet  # The import of pyarrow is slow.

    names, rows = read_parquet(path, columns)
    if repeated := _repeated(names):
        raise UserError(f"{path}: {repeated}. Give each column its own name.")
    return Table(str(path), names, tuple(rows))


_READERS: dict[str, Callable[[Path, Sequence[str]], Table]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}


def _read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file without its byte order mark. Line ends are unchanged."""
    content = reading.read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UserError(
            f"{path}, line {line}: the text is not UTF-8 ({byte}). Save the file as UTF-8."
        ) from None


def _repeated(names: Sequence[str]) -> str | None:
    """Returns a message about the first name that occurs twice, or None if all names differ."""
    for index, name in enumerate(names):
        if (first := names.index(name)) < index:
            return f"columns {first + 1} and {index + 1} have the same name"
    return None


class _Repeated(dict):
    """JSON object that has a repeated key or contains such an object."""

    fault: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a dict from the (key, value) pairs of a JSON object.

    The result is a `_Repeated` if a key is repeated in the object or in an object inside it.
    """
    value = dict(pairs)
    fault = next((part.fault for part in _repeated_objects([part for _, part in pairs])), None)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next(index for index, key in enumerate(keys) if key in keys[:index])
        first = keys.index(keys[again])
        fault = f"keys {first + 1} and {again + 1} of an object are the same"
    if fault:
        value = _Repeated(value)
        value.fault = fault
    return value


def _repeated_objects(values: list[Any]) -> Iterator[_Repeated]:
    """Yields the objects with a repeated key among values and in lists of values."""
    for value in values:
        if isinstance(value, list):
            yield from _repeated_objects(value)
        elif isinstance(value, _Repeated):
            yield value


def _parse_json(text: str) -> tuple[Any, str | None]:
    """Parses a JSON text.

    Returns:
        The value and None, or None and what is wrong if the text is not valid JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_object), None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}: " if "\n" in text else ""
        # The text after the colon would quote an invalid escape.
        problem = error.msg.partition(":")[0].removesuffix(" at")
        fault = f"the text is not valid JSON ({problem} at column {error.colno})"
        return None, f"{where}{fault}"
    except (ValueError, RecursionError):
        return None, "the text is not valid JSON (a number is too long or the nesting is too deep)"


def _row_fault(value: Any) -> str | None:
    if isinstance(value, _Repeated):
        return value.fault
    if isinstance(value, dict):
        return None
    return f'the row must be an object such as {{"question": ...}}, but it is {json_type(value)}'


def json_type(value: Any) -> str:
    """Returns the JSON name for the type of a value, such as "an array"."""
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
