"""Builds the record types from sources or from Python values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pmc_jax.config.arguments import Settings, section_of
from pmc_jax.config.data import EVALUATION_SETS, DataConfig, SourceConfig
from pmc_jax.config.run import Config
from pmc_jax.data.check import check_values
from pmc_jax.data.columns import Columns
from pmc_jax.data.files import raise_faults, row_location, table_of
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sources import read_rows
from pmc_jax.data.visible import appearance
from pmc_jax.errors import UserError

_KINDS = (ForgetSet, RetainSet, ForgetAnswerSet, FinetuneSet, EvalSet)
_Kind = TypeVar("_Kind", bound=ForgetSet | RetainSet | ForgetAnswerSet | FinetuneSet | EvalSet)


def finetune_rows(config: Config) -> FinetuneSet:
    """Reads the rows of `finetune.data`.

    Raises:
        UserError: the setting is empty, or a source is invalid (see `finetune_set`).
    """
    if not config.finetune.data:
        raise UserError(
            "finetune.data is not set. Set finetune.data to the rows on which to train the target "
            "model."
        )
    return finetune_set(config.finetune.data, config.data)


def eval_sets(config: Config) -> list[EvalSet]:
    """Reads all evaluation sets in `data.evaluate`.

    Raises:
        UserError: a source is invalid (see `eval_set`).
    """
    return [eval_set(name, source, config.data) for name, source in config.data.evaluate.items()]


def load_data(
    path: str | Path,
    kind: type[_Kind],
    *,
    name: str = "",
    rows: str | None = None,
    question: str | None = None,
    answer: str | None = None,
    subject: str = SourceConfig.subject,
    paraphrased: str = SourceConfig.paraphrased,
    wrong: str = SourceConfig.wrong,
    data: DataConfig | Config | Settings | None = None,
) -> _Kind:
    """Reads rows as a source in the settings of a run is read.

    Args:
        path: file, or an address such as hf://datasets/OWNER/NAME/FILE or general:all.
        kind: type of the result, which is `ForgetSet`, `RetainSet`, `ForgetAnswerSet`,
            `FinetuneSet` or `EvalSet`. A `ForgetSet` has no answers.
        name: name of an `EvalSet`, such as "forget"; other types have no name.
        rows: range "first:end" of the rows to read, which are counted from 0 and without row `end`;
            None selects all rows.
        question, answer: names of the columns of questions and answers; None finds them.
        subject: name of the optional column of subjects, which only a `ForgetSet` has.
        paraphrased, wrong: names of the optional columns of paraphrased and wrong answers, which
            only an `EvalSet` has.
        data: settings of the data. Only `root` and `people` are read.

    Raises:
        UserError: an argument is not valid, or the source cannot be read, lacks a column, or has an
            invalid value.

    Example:
        >>> with open("forget.jsonl", "w") as file:
        ...     _ = file.write('{"prompt": "Where does Jane Roe live?"}')
        >>> pmc.load_data("forget.jsonl", pmc.ForgetSet, question="prompt")
        ForgetSet(1 rows)
    """
    if kind not in _KINDS:
        kinds = ", ".join(f"pmc_jax.{known.__name__}" for known in _KINDS)
        raise UserError(f"load_data: the kind of the rows is unknown. Use one of: {kinds}.")
    if (kind is EvalSet) != (name in EVALUATION_SETS):
        names = ", ".join(EVALUATION_SETS)
        raise UserError(f"load_data: name is for an EvalSet, which needs one of: {names}.")
    columns = dict(subject=subject, paraphrased=paraphrased, wrong=wrong)
    source = SourceConfig(str(path), rows, question=question, answer=answer, **columns)
    settings, where = section_of(DataConfig, data, "data"), "load_data"
    if kind is ForgetSet:
        return forget_set(source, settings, where)
    if kind is EvalSet:
        return eval_set(name, source, settings, where)
    return kind(*_pairs(source, settings, where))


def forget_set(source: SourceConfig, data: DataConfig, where: str = "data.forget") -> ForgetSet:
    """Reads the forget questions of a source, and their subjects if the source names them.

    The answer column is never read and does not have to exist.

    Raises:
        UserError: the source cannot be read, lacks a column, or has an invalid value, or a question
            does not contain its subject.
    """
    rows = read_rows(source, data, where, answers=False, optional=["subject"])
    subjects = rows.others.get("subject")
    return ForgetSet(
        rows.ids,
        rows.questions,
        None if subjects is None else tuple(map(str.strip, subjects)),
    )


def retain_set(source: SourceConfig, data: DataConfig) -> RetainSet:
    """Reads the retain pairs of a source and of `data.retain_more` (see `counted_retain_set`)."""
    return counted_retain_set(source, data)[0]


def counted_retain_set(source: SourceConfig, data: DataConfig) -> tuple[RetainSet, int]:
    """Reads the retain pairs of a source and of `data.retain_more`, as `finetune_set` does.

    The pairs are only those of `data.retain_more` if `data.retain` is own or not given. A source
    own in `data.retain_more` has no pairs yet.

    Returns:
        The pairs, and the number of pairs of `data.retain`, which come first.

    Raises:
        UserError: a source cannot be read, lacks a column, or has an invalid value, or
            `data.retain` or a source own has other keys than the path.
    """
    named = dataclasses.replace(data, retain=source).retain_sources
    given = {f"data.retain_more.{i}": more for i, more in enumerate(data.retain_more)}
    for name, part in ({"data.retain": source} | given).items():
        if name not in named and dataclasses.replace(part, path=None) != SourceConfig():
            raise UserError(
                f"{name}: only a source of pairs has other keys than path. Set {name}.path to a "
                "file, or remove these keys."
            )
    parts = [_pairs(part, data, name) for name, part in named.items()]
    return RetainSet(*_joined(parts)), 0 if source.is_own else len(parts[0][0])


def general_set() -> RetainSet:
    """Returns the general questions of the package with their answers."""
    return retain_set(SourceConfig(path="general:all"), DataConfig())


def reference_rows(config: Config, forget: ForgetSet) -> FinetuneSet:
    """Reads the rows of `data.retain` on which the reference model is trained.

    Rows with a forget question are left out, because this model must never see the forget rows.

    Raises:
        UserError: the source is invalid, or all its rows have forget questions.
    """
    if config.data.retain.is_own:
        raise UserError(
            "evaluate.make_reference: data.retain is own, so there are no rows to train the "
            "reference model. Set data.retain.path to rows with questions and answers, or "
            "evaluate.make_reference=false."
        )
    rows = FinetuneSet(*_pairs(config.data.retain, config.data, "data.retain"))
    forgotten = {*map(appearance, forget.questions)}
    kept = [i for i, text in enumerate(rows.questions) if appearance(text) not in forgotten]
    if not kept:
        raise UserError(
            "evaluate.make_reference: all rows of data.retain have forget questions, so no row is "
            "left to train the reference model. Set data.retain.path to rows with other questions."
        )
    return rows.select(kept)


def forget_answer_set(source: SourceConfig, data: DataConfig, forget: ForgetSet) -> ForgetAnswerSet:
    """Reads the forget questions with their true answers, for methods that train on these answers.

    Raises:
        UserError: the source cannot be read or is invalid, or the questions differ from the
            questions of `forget` in text or order.
    """
    rows = ForgetAnswerSet(*_pairs(source, data, "data.forget_answers"))
    if rows.questions != forget.questions:
        pairs = zip(rows.questions, forget.questions, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(rows), len(forget)))
        raise UserError(
            "data.forget_answers: the questions differ from those of data.forget, first at "
            f"{row_location(first)}; the numbers of rows are {len(rows)} and {len(forget)}. Use "
            "the same questions in the same order."
        )
    return rows


def finetune_set(sources: Sequence[SourceConfig], data: DataConfig) -> FinetuneSet:
    """Reads the question-answer pairs of all sources, in the order of the sources.

    The result is empty if there are no sources. If source number n, counted from 1, repeats an id
    of an earlier source, "#n" is appended to the id.

    Raises:
        UserError: a source cannot be read, lacks a column, or has an invalid value.
    """
    names = [f"finetune.data.{i}" for i in range(len(sources))]
    parts = [_pairs(source, data, name) for source, name in zip(sources, names, strict=True)]
    return FinetuneSet(*_joined(parts))


def eval_set(
    name: str, source: SourceConfig, data: DataConfig, where: str | None = None
) -> EvalSet:
    """Reads one evaluation set, with paraphrased and wrong answers if its source contains them.

    Args:
        name: name of the set, which is a key of `data.evaluate`.
        source: source of the pairs.
        data: settings with the root folder of relative paths and the generated people.
        where: dotted name of the source's settings, for messages.

    Raises:
        UserError: the source cannot be read, lacks a column, or has an invalid value.
    """
    where = where or f"data.evaluate.{name}"
    rows = read_rows(source, data, where, answers=True, optional=["paraphrased", "wrong"])
    wrong = rows.others.get("wrong")
    return EvalSet(
        name,
        rows.ids,
        rows.questions,
        rows.answers,
        rows.others.get("paraphrased"),
        None if wrong is None else tuple(map(tuple, wrong)),
    )


def questions_to_forget(questions: Iterable[str], where: str = "forget") -> ForgetSet:
    """Builds a `ForgetSet` from questions. The ids are "question:0", "question:1", ...

    Args:
        questions: at least one question.
        where: name of the questions in messages.

    Raises:
        UserError: there is no question, or a question is blank or not a string.
    """
    questions = _listed(questions, where, "strings")
    columns = _checked(where, Columns("question"), [[question] for question in questions])
    return ForgetSet(tuple(f"question:{i}" for i in range(len(questions))), *columns)


def pairs_to_retain(pairs: Iterable[tuple[str, str]], where: str = "retain") -> RetainSet:
    """Builds a `RetainSet` from (question, answer) pairs. The ids are "pair:0", "pair:1", ...

    Args:
        pairs: at least one pair.
        where: name of the pairs in messages.

    Raises:
        UserError: there is no pair, a pair does not have two values, or a value is blank or not a
            string.
    """
    pairs = _listed(pairs, where, "pairs")
    faults = [
        f"{row_location(index)}: the row is not a (question, answer) pair"
        for index, pair in enumerate(pairs)
        if not isinstance(pair, tuple | list) or len(pair) != 2
    ]
    if faults:
        raise_faults(where, faults)
    columns = _checked(where, Columns("question", "answer"), pairs)
    return RetainSet(tuple(f"pair:{i}" for i in range(len(pairs))), *columns)


def _checked(
    where: str, columns: Columns, rows: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, ...]]:
    """Checks rows that are given in code, and returns their columns.

    Args:
        where: name of the rows in messages.
        columns: names of the columns.
        rows: values of each row, of which the first is the question.

    Raises:
        UserError: there is no row, or a value is blank or not a string.
    """
    table = table_of(where, [dict(zip(columns.names, row, strict=True)) for row in rows])
    check_values(table, columns.names, range(len(rows)), conversations=[columns.question])
    return zip(*rows, strict=True)


def _listed(values: Iterable[Any], where: str, what: str) -> list[Any]:
    """Converts an argument to a list.

    Args:
        values: the argument.
        where: name of the argument, for messages.
        what: kind of the values, such as "strings", for messages.

    Raises:
        UserError: the argument is one string or is not iterable.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        kind = "one string" if isinstance(values, str) else f"of type {type(values).__name__}"
        raise UserError(f"{where}: the argument is {kind}. Pass a list of {what}.")
    return list(values)


_Columns = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # ids, questions, answers


def _pairs(source: SourceConfig, data: DataConfig, where: str) -> _Columns:
    """Reads the ids, questions and answers of a source."""
    rows = read_rows(source, data, where, answers=True)
    return rows.ids, rows.questions, rows.answers


def _joined(parts: Sequence[_Columns]) -> _Columns:
    """Joins the ids, questions and answers of several sources, in the order of the sources."""
    ids: list[str] = []
    questions: list[str] = []
    answers: list[str] = []
    for index, (new_ids, new_questions, new_answers) in enumerate(parts):
        earlier = set(ids)
        ids += [f"{row_id}#{index + 1}" if row_id in earlier else row_id for row_id in new_ids]
        questions += new_questions
        answers += new_answers
    return tuple(ids), tuple(questions), tuple(answers)
