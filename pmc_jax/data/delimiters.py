"""Finds the character that separates the values of a CSV or TSV file.

The column names of the settings are searched for in the header. The rows below it do not affect the
choice, because their values may contain any of these characters.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Most questions contain commas, so a comma does not show that a row has two values.
_RARE_IN_TEXTS = (";", "\t", "|")
_HEAD = 1_000_000  # Only this many characters are searched for the header.


def split_hint(text: str) -> tuple[str, str | None]:
    """Removes Excel's first line `sep=X` from a text.

    Returns:
        The text without this line, and the delimiter X, or None if there is no such line.
    """
    hint = re.match(r'"?sep=([^\w\s"]|\t)"?(?:\r\n|\n|\r)', text)
    return (text[hint.end() :], hint[1]) if hint else (text, None)


def find_delimiter(text: str, columns: Sequence[str], default: str) -> str:
    """Returns the delimiter of a CSV text whose first row is a header.

    The function chooses the delimiter with which the header contains the most names of `columns`.
    Ties are decided by the number of columns in the header, and then in favour of `default`.

    Args:
        text: text of the file.
        columns: names of the columns to read.
        default: delimiter that the suffix of the file suggests.
    """

    def merit(delimiter: str) -> tuple[int, int, bool]:
        header = next(_rows(text[:_HEAD], delimiter), [])
        return len({*columns} & {*header}), len(header), delimiter == default

    return max(NAMES, key=merit)


def undivided(text: str) -> str | None:
    """Returns a delimiter that divides at least half of the rows below the header, or None.

    If the header has one column, such a delimiter suggests that each row also holds an answer. The
    answer would be read as a part of the question. Only semicolons, tabs and vertical bars outside
    quotes count.
    """
    for delimiter in _RARE_IN_TEXTS:
        widths = [len(row) for row in _rows(text, delimiter)][1:]
        if widths and 2 * sum(width > 1 for width in widths) >= len(widths):
            return delimiter
    return None


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yields the non-empty rows of a CSV text, up to the first invalid row."""
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            if row:
                yield row
    except csv.Error:
        return
