"""Rows of each kind, from their sources: what may be in them, and what of them is read."""

from __future__ import annotations

from collections.abc import Sequence

from pmc_jax.config.run import Config, DataConfig, SourceConfig
from pmc_jax.data.check import check_values
from pmc_jax.data.files import raise_faults, row_place
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sources import _column, _given, _ids, _read
from pmc_jax.errors import UserError


def finetune_rows(config: Config) -> FinetuneSet:
    if not config.finetune.data:
        raise UserError("finetune.data: not given; name the rows that the target model is to know")
    return finetune_set(config.finetune.data, config.data)


def eval_sets(config: Config) -> list[EvalSet]:
    return [
        eval_set(name, needed(source, f"data.evaluate.{name}"), config.data)
        for name, source in config.data.evaluate.items()
    ]


def needed(source: SourceConfig, where: str) -> SourceConfig:
    if source.path is None:
        raise UserError(f"{where}.path: not given; name a file, tfds:NAME/CONFIG or people:SPLIT")
    return source


def forget_set(source: SourceConfig, data: DataConfig) -> ForgetSet:
    """The sensitive questions. The answer column is not looked at, and need not exist.

    Raises:
        UserError: as `read_rows`.
    """
    ids, rows, _ = _read(source, data, [source.question], "data.forget")
    return ForgetSet(ids=ids, questions=_column(rows, source.question))


def retain_set(source: SourceConfig, data: DataConfig) -> RetainSet:
    """The pairs to keep.

    Raises:
        UserError: as `read_rows`.
    """
    return RetainSet(*_pairs(source, data, "data.retain"))


def forget_answer_set(source: SourceConfig, data: DataConfig, forget: ForgetSet) -> ForgetAnswerSet:
    """The forget questions with their true answers, for methods that train on them.

    Raises:
        UserError: as `read_rows`; or the questions are not those of `forget`, in their order.
    """
    rows = ForgetAnswerSet(*_pairs(source, data, "data.forget_answers"))
    if rows.questions != forget.questions:
        pairs = zip(rows.questions, forget.questions, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(rows), len(forget)))
        raise UserError(
            f"data.forget_answers: {len(rows)} questions, data.forget has {len(forget)}; they must "
            f"be the same in the same order, and differ from row {first} on"
        )
    return rows


def finetune_set(sources: Sequence[SourceConfig], data: DataConfig) -> FinetuneSet:
    """The pairs of all sources, one after the other. No sources give an empty set.

    Where source number n (from 1) repeats an id of an earlier one, "#n" is added to it.

    Raises:
        UserError: as `read_rows`.
    """
    ids: list[str] = []
    questions: list[str] = []
    answers: list[str] = []
    for index, source in enumerate(sources):
        new = _pairs(source, data, f"finetune.data.{index}")
        taken = set(ids)
        ids += [f"{row_id}#{index + 1}" if row_id in taken else row_id for row_id in new[0]]
        questions += new[1]
        answers += new[2]
    return FinetuneSet(tuple(ids), tuple(questions), tuple(answers))


def eval_set(name: str, source: SourceConfig, data: DataConfig) -> EvalSet:
    """The pairs of one measurement, with paraphrased and wrong answers where the source has them.

    Args:
        name: of the measurement, a key of data.evaluate.
        source: where its pairs are.
        data: folder of relative paths, and the settings of generated people.

    Raises:
        UserError: as `read_rows`.
    """
    columns, more = [source.question, source.answer], [source.paraphrased, source.wrong]
    ids, rows, there = _read(source, data, columns, f"data.evaluate.{name}", more)
    pairs = [_column(rows, column) for column in columns]
    paraphrased, wrong = (_column(rows, c) if c in there else None for c in more)
    wrong = None if wrong is None else tuple(map(tuple, wrong))
    return EvalSet(name, ids, *pairs, paraphrased, wrong)


def questions_to_forget(questions: Sequence[str]) -> ForgetSet:
    """A `ForgetSet` of questions given in code, with ids "question:0", "question:1", ...

    Raises:
        UserError: no question, or one is no string or blank.
    """
    if isinstance(questions, str):
        raise UserError("questions_to_forget: give a list of questions, not one string")
    table = _given("questions_to_forget", [{"question": question} for question in questions])
    check_values(table, ["question"], range(len(table.rows)))
    return ForgetSet(_ids("question", range(len(questions))), tuple(questions))


def pairs_to_retain(pairs: Sequence[tuple[str, str]]) -> RetainSet:
    """A `RetainSet` of (question, answer) pairs given in code, with ids "pair:0", "pair:1", ...

    Raises:
        UserError: no pair, one that is not two values, or a value is no string or blank.
    """
    odd = [
        index
        for index, pair in enumerate(pairs)
        if not isinstance(pair, tuple | list) or len(pair) != 2
    ]
    if odd:
        faults = [f"{row_place(index)}: not a (question, answer) pair" for index in odd]
        raise_faults("pairs_to_retain", faults)
    table = _given("pairs_to_retain", [{"question": q, "answer": a} for q, a in pairs])
    check_values(table, ["question", "answer"], range(len(table.rows)))
    questions, answers = zip(*pairs, strict=True)
    return RetainSet(_ids("pair", range(len(pairs))), questions, answers)


def _pairs(
    source: SourceConfig, data: DataConfig, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    ids, rows, _ = _read(source, data, [source.question, source.answer], where)
    return ids, _column(rows, source.question), _column(rows, source.answer)
