"""Checks the values in the columns of a source and reports the faults in one error.

A message names only the columns in the settings and columns with common names. All other columns
are counted, because a name may be private text. For example, the first row of a file without a
header is read as names, and a key of an object may be a question.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pmc_jax.data.conversation import has_mark, split
from pmc_jax.data.files import Table, json_type, raise_faults
from pmc_jax.data.visible import is_visible
from pmc_jax.errors import UserError

# Messages may show these column names. The names in `_QUESTIONS` have the same meaning, and so do
# the names in `_ANSWERS`.
_QUESTIONS = ("question", "questions", "prompt", "instruction", "query", "input")
_ANSWERS = ("answer", "answers", "completion", "response", "output", "reply", "target", "label")
_OTHERS = ("paraphrased_question", "paraphrased_answer", "perturbed_answer")
_OTHERS += ("text", "messages", "conversations", "id")
_COMMON = (*_QUESTIONS, *_ANSWERS, *_OTHERS)


def check_values(
    table: Table,
    columns: Sequence[str],
    selected: range,
    *,
    lists: Sequence[str] = (),
    empty: Sequence[str] = (),
    conversations: Sequence[str] = (),
    settings: Sequence[str] = ("question", "answer"),
) -> None:
    """Checks that every value in some columns of the selected rows is a string with visible text.

    Args:
        table: the rows of one source.
        columns: names of the columns to check.
        selected: indices of the rows to check.
        lists: names of the columns whose values must be non-empty arrays of such strings.
        empty: names of the columns in which a value may also be empty, null or missing.
        conversations: names of the columns whose values may be conversations (see `conversation`).
        settings: names of the settings that name columns, for messages.

    Raises:
        UserError: a column is absent or a value is invalid. The message is one line.
    """
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UserError(_absent(table, absent, settings))
    faults = []
    for index in selected:
        row = table.rows[index]
        for name in columns:
            value = row.get(name)
            if name in empty and (value is None or (isinstance(value, str) and not value.strip())):
                continue
            if name not in row:
                faults.append(f"{table.location(index)}: the column '{name}' is missing")
                continue
            if name in conversations and isinstance(value, str):
                texts = (text for _, text in split(value))
                fault = next(filter(None, map(text_fault, texts)), None)
            else:
                fault = _list_fault(value) if name in lists else text_fault(value)
            if fault:
                faults.append(f"{table.location(index)}: the value in column '{name}' {fault}")
    if faults:
        raise_faults(table.name, faults)


def check_split(source: str, split: str, splits: Sequence[str]) -> None:
    """Checks that a source that ships with the package has a split.

    Args:
        source: scheme of the source, such as "people".
        split: name of the split.
        splits: names of the splits of the source.

    Raises:
        UserError: the split is unknown.
    """
    if split not in splits:
        raise UserError(
            f"{source}:{split}: this split does not exist. Use one of {', '.join(splits)}."
        )


def text_fault(value: Any) -> str | None:
    """Returns the fault of a value, such as "is null, not a string", or None for a valid value."""
    if not isinstance(value, str):
        return f"is {json_type(value)}, not a string"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # JSON may contain half of a surrogate pair (\\ud800), which no tokenizer accepts.
        return "contains half of a surrogate pair, which is not valid text"
    if has_mark(value):
        return "contains a character from U+FDD0 to U+FDD2, which Unicode reserves"
    if not value.strip():
        return "is empty"
    return None if is_visible(value) else "has no visible character"


def _list_fault(value: Any) -> str | None:
    if isinstance(value, list | tuple) and value and not any(map(text_fault, value)):
        return None
    return "must be an array of strings with visible text, and must not be empty"


def _absent(table: Table, names: Sequence[str], settings: Sequence[str]) -> str:
    common = [name for name in table.columns if name.strip().casefold() in _COMMON]
    faults = []
    for name in names:
        near = _meant(name, common)
        guess = f" Did you mean {near}?" if near else ""
        article = "The" if faults else "the"
        faults.append(f"{article} column '{name}' does not exist.{guess}")
    others = len(table.columns) - len(common)
    there = [_shown(name) for name in common]
    if others:
        there.append(
            f"{others} {'columns with other names' if others > 1 else 'column with another name'}"
        )
    fix = f"Set {' and '.join(settings)} to the column{'s' * (len(settings) > 1)} to read"
    if table.name.lower().endswith((".csv", ".tsv")) and not common:
        fix = f"Write the names of the columns in the first line. Or {fix[0].lower()}{fix[1:]}"
    return f"{table.name}: {' '.join(faults)} The columns are: {', '.join(there) or 'none'}. {fix}."


def _meant(name: str, common: Sequence[str]) -> str | None:
    """Returns the existing column, in quotes, that the user probably meant, or None.

    For a common name of a question column, the function suggests only question columns, and for a
    common name of an answer column, only answer columns.

    Args:
        name: name of a column that does not exist.
        common: existing columns with common names.
    """
    plain = {column.strip().casefold(): column for column in common}
    group = next((g for g in (_QUESTIONS, _ANSWERS) if name.strip().casefold() in g), None)
    if group is None:
        near = difflib.get_close_matches(name.strip().casefold(), plain, n=1, cutoff=0.8)
    else:
        near = [column for column in plain if column in group]
        near.sort(key=lambda column: -_likeness(name, column))
    return repr(plain[near[0]]) if near else None


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.casefold(), other).ratio()


def _shown(name: str) -> str:
    """Returns a common name for a message, in quotes if white space surrounds it."""
    return name if name == name.strip() else repr(name)
