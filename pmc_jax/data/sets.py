"""Builds the records from their sources, or from rows in code."""

from __future__ import annotations

from collections.abc import Sequence

from pmc_jax.config.run import Config, DataConfig, SourceConfig
from pmc_jax.data.check import check_values
from pmc_jax.data.files import raise_faults, row_location, table_of
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sources import read_rows
from pmc_jax.errors import UserError


def finetune_rows(config: Config) -> FinetuneSet:
    if not config.finetune.data:
        raise UserError("finetune.data: not given; name the rows to fine-tune the target model on")
    return finetune_set(config.finetune.data, config.data)


def eval_sets(config: Config) -> list[EvalSet]:
    return [eval_set(name, source, config.data) for name, source in config.data.evaluate.items()]


def forget_set(source: SourceConfig, data: DataConfig) -> ForgetSet:
    """The sensitive questions; the answer column is never read and need not exist.

    Raises:
        UserError: as `read_rows`.
    """
    rows = read_rows(source, data, [source.question], "data.forget")
    return ForgetSet(rows.ids, rows.columns[source.question])


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
            f"be the same in the same order, but differ from row {first} on"
        )
    return rows


def finetune_set(sources: Sequence[SourceConfig], data: DataConfig) -> FinetuneSet:
    """The pairs of all sources, in their order; empty without sources.

    If source number n (from 1) repeats an id of an earlier source, "#n" is appended to the id.

    Raises:
        UserError: as `read_rows`.
    """
    ids: list[str] = []
    questions: list[str] = []
    answers: list[str] = []
    for index, source in enumerate(sources):
        new_ids, new_questions, new_answers = _pairs(source, data, f"finetune.data.{index}")
        earlier = set(ids)
        ids += [f"{row_id}#{index + 1}" if row_id in earlier else row_id for row_id in new_ids]
        questions += new_questions
        answers += new_answers
    return FinetuneSet(tuple(ids), tuple(questions), tuple(answers))


def eval_set(name: str, source: SourceConfig, data: DataConfig) -> EvalSet:
    """The pairs of one evaluation set, with paraphrased and wrong answers if the source has them.

    Args:
        name: name of the set, a key of data.evaluate.
        source: source of its pairs.
        data: folder of relative paths, and settings of the generated people.

    Raises:
        UserError: as `read_rows`.
    """
    pair, optional = (source.question, source.answer), (source.paraphrased, source.wrong)
    rows = read_rows(source, data, pair, f"data.evaluate.{name}", optional=optional)
    wrong = rows.columns.get(source.wrong)
    return EvalSet(
        name,
        rows.ids,
        rows.columns[source.question],
        rows.columns[source.answer],
        rows.columns.get(source.paraphrased),
        None if wrong is None else tuple(map(tuple, wrong)),
    )


def questions_to_forget(questions: Sequence[str]) -> ForgetSet:
    """A `ForgetSet` of a list of questions, with ids "question:0", "question:1", ...

    Raises:
        UserError: there is no question, or a question is blank or not a string.
    """
    if isinstance(questions, str):
        raise UserError("questions_to_forget: give a list of questions, not one string")
    table = table_of("questions_to_forget", [{"question": question} for question in questions])
    check_values(table, ["question"], range(len(questions)))
    ids = tuple(f"question:{i}" for i in range(len(questions)))
    return ForgetSet(ids, tuple(questions))


def pairs_to_retain(pairs: Sequence[tuple[str, str]]) -> RetainSet:
    """A `RetainSet` of (question, answer) pairs, with ids "pair:0", "pair:1", ...

    Raises:
        UserError: there is no pair, a pair does not have two values, or a value is blank or not a
            string.
    """
    faults = [
        f"{row_location(index)}: not a (question, answer) pair"
        for index, pair in enumerate(pairs)
        if not isinstance(pair, tuple | list) or len(pair) != 2
    ]
    if faults:
        raise_faults("pairs_to_retain", faults)
    table = table_of("pairs_to_retain", [{"question": q, "answer": a} for q, a in pairs])
    check_values(table, ["question", "answer"], range(len(pairs)))
    questions, answers = zip(*pairs, strict=True)
    return RetainSet(tuple(f"pair:{i}" for i in range(len(pairs))), questions, answers)


def _pairs(
    source: SourceConfig, data: DataConfig, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Ids, questions and answers of a source."""
    ids, columns = read_rows(source, data, [source.question, source.answer], where)
    return ids, columns[source.question], columns[source.answer]
