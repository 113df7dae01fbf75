"""Finds the columns of a source that hold its questions and answers.

If the settings `question` and `answer` of a source name no columns, the columns "question" and
"answer" are read. A source that lacks them may have the columns of another usual format. Then the
columns of the only format that fits are read, and a line on stderr names them. Usual names may also
be capitalised or in capital letters, such as "Question" and "QUESTION".
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pmc_jax.config.data import SourceConfig
from pmc_jax.data.files import Table, raise_faults
from pmc_jax.data.messages import answer_of, question_of
from pmc_jax.errors import UserError

_log = logging.getLogger(__name__)

# The columns with questions and answers in usual formats. Chat messages hold both.
_MESSAGES = "messages"
_FORMATS = (
    ("question", "answer"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("query", "response"),
    ("input", "output"),
    (_MESSAGES, _MESSAGES),
)
_INSTRUCTION, _INPUT = "instruction", "input"  # An input that is not empty is appended.
_USUAL = tuple(dict.fromkeys(name for names in _FORMATS for name in names))


class Columns(NamedTuple):
    """Names of the columns that hold the questions and the answers of a source.

    Attributes:
        question: column of the questions.
        answer: column of the answers, or None if they are not read. It is the column of the
            questions if both are in chat messages.
        added: column whose texts are appended to the questions, or None.
    """

    question: str
    answer: str | None = None
    added: str | None = None

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name in self if name is not None))


def usual_columns(source: SourceConfig, *, answers: bool) -> list[str]:
    """Returns the names of all columns that may hold the questions and the answers of a source.

    Args:
        answers: whether answers are read.
    """
    names = [source.question] if source.question else _spellings(q for q, _ in _FORMATS)
    if answers:
        names += [source.answer] if source.answer else _spellings(a for _, a in _FORMATS)
    return list(dict.fromkeys(names))


def _spellings(names: Iterable[str]) -> list[str]:
    return [text for name in names for text in (name, name.capitalize(), name.upper())]


def find_columns(source: SourceConfig, table: Table, where: str, *, answers: bool) -> Columns:
    """Finds the columns that hold the questions and the answers of a source.

    The result may name columns that do not exist, which `check_values` reports.

    Args:
        source: settings of the source.
        table: rows of the source.
        where: dotted name of the source's settings, for messages.
        answers: whether answers are read.

    Raises:
        UserError: several usual formats fit the columns.
    """
    there = {
        name: spelling
        for name in _USUAL
        for spelling in reversed(_spellings([name]))
        if spelling in table.columns
    }
    question = source.question or there.get("question")
    answer = source.answer or there.get("answer")
    if question is not None and answer is None and _holds_messages(table, question):
        answer = question
    if question is None or (answers and answer is None):
        fits = _fits(there, question, answer, answers=answers)
        if len(fits) > 1:
            texts = [f"{q} and {a}" if answers and q != a else q for q, a in fits]
            settings = f"{where}.question" + (f" and {where}.answer" if answers else "")
            raise UserError(
                f"{table.name}: several columns may hold the rows of {where} ({'; '.join(texts)}). "
                f"Set {settings} to the column{'s' * answers} to read."
            )
        if fits:
            question, answer = fits[0]
        if question == there.get(_MESSAGES) and not source.answer:
            answer = question
    columns = Columns(question or "question", (answer or "answer") if answers else None)
    if not source.question and columns.question == there.get(_INSTRUCTION):
        columns = columns._replace(added=there.get(_INPUT))
    _report(source, table, where, columns)
    return columns


def _fits(
    there: Mapping[str, str], question: str | None, answer: str | None, *, answers: bool
) -> list[tuple[str, str]]:
    """Returns the columns of the questions and the answers in each format that fits.

    Args:
        there: usual names that the source has -> their spelling.
        question, answer: columns that are known already, or None.
        answers: whether answers are read. Without them, formats whose answers exist come first.
    """
    fits = {
        (question or there[q], answer or there.get(a, a)): answer is not None or a in there
        for q, a in _FORMATS
        if (question is not None or q in there) and not (q == _INPUT and _INSTRUCTION in there)
    }
    whole = [pair for pair, has_answers in fits.items() if has_answers]
    return whole if whole or answers else list(fits)


def _report(source: SourceConfig, table: Table, where: str, columns: Columns) -> None:
    """Logs which columns are read, if neither the settings nor the defaults name them."""
    added = "" if columns.added is None else f" and {columns.added}"
    question = columns.question + added
    taken = {}
    if not source.question and question != "question":
        taken["question"] = f"the questions from {question}"
    if columns.answer is not None and not source.answer and columns.answer != "answer":
        taken["answer"] = f"the answers from {columns.answer}"
    if taken:
        text = " and ".join(taken.values())
        if len(taken) == 2 and question == columns.answer:
            text = f"the questions and the answers from {question}"
        _log.warning(
            "%s: pmc reads %s in %s. To change this, set its %s.",
            *(where, text, table.name, " and ".join(taken)),
        )


def with_added_text(row: Mapping[str, str], columns: Columns) -> str:
    """Returns the question of a row, with the text of the column `added` on the next lines."""
    question, added = row[columns.question], row.get(columns.added or "") or ""
    return f"{question}\n{added}" if added.strip() else question


def separate_messages(table: Table, columns: Columns, selected: range) -> tuple[Table, Columns]:
    """Divides chat messages into questions and answers.

    Args:
        table: rows of the source.
        columns: columns of the questions and the answers.
        selected: indices of the rows to read.

    Returns:
        The table with texts in place of messages, and its columns. They are the arguments if no
        column holds messages.

    Raises:
        UserError: the messages of a row are not valid.
    """
    question, answer = columns.question, columns.answer
    readers: list[tuple[str, str, Callable[[Any], str]]] = []  # (column, new column, reader)
    if question == answer or question.lower() == _MESSAGES or _holds_messages(table, question):
        may_end = {None: True, question: True}.get(answer, False)
        readers.append((question, question, partial(question_of, may_have_answer=may_end)))
    if answer is not None and (question == answer or _holds_messages(table, answer)):
        columns = columns._replace(answer=f"answer in {answer}")
        readers.append((answer, columns.answer, answer_of))
    if not readers:
        return table, columns
    rows, faults = list(table.rows), []
    for index in selected:
        texts = {}
        for column, new, reader in readers:
            if column in rows[index]:  # `check_values` reports a missing column.
                try:
                    texts[new] = reader(rows[index][column])
                except ValueError as error:
                    fault = f"the value in column '{column}' {error}"
                    faults.append(f"{table.location(index)}: {fault}")
                    break
        rows[index] = rows[index] | texts
    if faults:
        raise_faults(table.name, faults)
    names = dict.fromkeys((*table.columns, *columns.names))
    return dataclasses.replace(table, columns=tuple(names), rows=tuple(rows)), columns


def _holds_messages(table: Table, column: str) -> bool:
    values = (row.get(column) for row in table.rows)
    arrays = (value for value in values if isinstance(value, list | tuple))
    return any(isinstance(entry, dict) for array in arrays for entry in array)
