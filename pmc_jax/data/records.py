"""Record types, which hold rows of data as columns of strings.

`ForgetSet` has no field for an answer, so its type guarantees that PMC never reads the true answers
to forget questions. Only three types may hold these answers. Evaluation imports `EvalSet`,
fine-tuning imports `FinetuneSet`, and the methods that train on true answers import
`ForgetAnswerSet`. This module reads no files and imports neither a tokenizer nor jax.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable
from typing import Self

from pmc_jax.config.notebook import table
from pmc_jax.data.subjects import find_subjects
from pmc_jax.errors import UserError, first_of


class _Rows:
    """Base class of the record types. Columns have equal lengths, and ids are unique."""

    def __post_init__(self) -> None:
        """Checks that the columns and ids are valid.

        Raises:
            UserError: a column is not a tuple of strings (`wrong`: of tuples of strings), the
                columns differ in length, or an id is repeated.
        """
        kind = type(self).__name__
        columns = {name: getattr(self, name) for name in self._column_names()}
        for name, values in columns.items():
            form = "a tuple of tuples of str" if name == "wrong" else "a tuple of str"
            for texts in values if name == "wrong" else [values]:
                if not isinstance(texts, tuple) or not all(isinstance(v, str) for v in texts):
                    raise UserError(f"{kind}: the column '{name}' is not {form}. Pass {form}.")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise UserError(
                f"{kind}: the columns differ in length ({counts}). Give each row a value in every "
                "column."
            )
        repeated = [row_id for row_id, count in Counter(self.ids).items() if count > 1]
        if repeated:
            raise UserError(
                f"{kind}: the id '{repeated[0]}' is used more than once. Give each row its own id."
            )

    def __init_subclass__(cls) -> None:
        cls.__repr__ = _Rows.__repr__  # `dataclass` would otherwise define another repr.

    def __repr__(self) -> str:
        """Returns the type and the number of rows, without their texts."""
        return f"{type(self).__name__}({len(self)} rows)"

    def _repr_html_(self) -> str:
        """Returns the number of rows and the names of the columns, without their texts."""
        columns = ", ".join(self._column_names())
        return table(type(self).__name__, {"rows": f"{len(self):,}", "columns": columns})

    def _column_names(self) -> tuple[str, ...]:
        names = (f.name for f in dataclasses.fields(self) if f.name != "name")
        return tuple(name for name in names if getattr(self, name) is not None)

    @functools.cached_property
    def index_of(self) -> dict[str, int]:
        """Index of the row with each id."""
        return {row_id: index for index, row_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: Iterable[int]) -> Self:
        """Returns a new record with the rows at the given indices, in the order of the indices.

        Args:
            indices: indices of rows, of which negative ones count from the end.

        Raises:
            UserError: an index is repeated, because ids must be unique.
            IndexError: an index is out of range.

        Example:
            >>> pmc.ForgetSet(("a", "b"), ("Where does Jane Roe live?", "Who is she?")).select([1])
            ForgetSet(1 rows)
        """
        rows = [int(i) for i in indices]
        names = self._column_names()
        return dataclasses.replace(
            self, **{name: tuple(getattr(self, name)[i] for i in rows) for name in names}
        )


@dataclasses.dataclass(frozen=True)
class ForgetSet(_Rows):
    """Forget questions without answers. This type has no field for an answer.

    Args:
        ids: one unique string per row.
        questions: one string per row.
        subjects: the person or thing that each question is about, "" for none, or None if the data
            do not name subjects.

    Raises:
        UserError: a column or an id is invalid, or a question does not contain the words of its
            subject, apart from case.

    Example:
        >>> pmc.ForgetSet(("a", "b"), ("Where does Jane Roe live?", "Who is Jane Roe?"))
        ForgetSet(2 rows)
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    subjects: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subjects is None:
            return
        found = find_subjects(self.questions, [], given=self.subjects)
        rows = zip(self.ids, self.subjects, found, strict=True)
        absent = [id_ for id_, subject, names in rows if subject and not names]
        if absent:
            raise UserError(
                f"ForgetSet: the question does not contain its subject in {len(absent)} of "
                f"{len(self)} rows ({first_of(absent, 5)}). Write the subject in the words of the "
                "question or leave it empty. If the column of subjects has another meaning, set "
                "data.forget.subject to another name."
            )


@dataclasses.dataclass(frozen=True)
class _Pairs(_Rows):
    """Question-answer pairs.

    Args:
        ids: one unique string per row.
        questions: one string per row.
        answers: one string per row.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]


class RetainSet(_Pairs):
    """Question-answer pairs that the model must keep.

    Args:
        ids, questions, answers: see `FinetuneSet`.

    Raises:
        UserError: a column or an id is invalid.

    Example:
        >>> rows = pmc.RetainSet(("a", "b"), ("Who wrote Emma?", "2 + 2?"), ("Austen.", "4"))
        >>> rows.select([1]).answers
        ('4',)
    """


@dataclasses.dataclass(frozen=True)
class OwnQuestions(_Rows):
    """Questions whose retain answers the target model gives itself (see `unlearning.own_retain`).

    Args:
        ids: one unique string per row.
        questions: one string per row.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]


class FinetuneSet(_Pairs):
    """Question-answer pairs for training a target model. No unlearning method imports this type.

    Args:
        ids: one unique string per row.
        questions: one string per row.
        answers: one string per row.

    Raises:
        UserError: a column or an id is invalid.

    Example:
        >>> len(pmc.FinetuneSet(("a",), ("Who wrote Emma?",), ("Jane Austen.",)))
        1
    """


class ForgetAnswerSet(_Pairs):
    """Forget questions with their true answers, for the methods that train on these answers.

    PMC does not import this type.

    Args:
        ids, questions, answers: see `FinetuneSet`.

    Raises:
        UserError: a column or an id is invalid.

    Example:
        >>> pmc.ForgetAnswerSet(("a",), ("Where does Jane Roe live?",), ("In Springfield.",))
        ForgetAnswerSet(1 rows)
    """


@dataclasses.dataclass(frozen=True)
class EvalSet(_Rows):
    """Question-answer pairs that evaluation compares with a model's answers.

    No unlearning method imports this type.

    Args:
        name: key in `data.evaluate`, such as "forget" or "world_facts".
        ids: one unique string per row.
        questions: one string per row.
        answers: the true answers, one string per row.
        paraphrased: the true answers in other words, or None if the data contain none.
        wrong: several wrong answers per row, or None if the data contain none.

    Raises:
        UserError: a column or an id is invalid.

    Example:
        >>> pmc.EvalSet("retain", ("a",), ("Who wrote Emma?",), ("Jane Austen.",))
        EvalSet(1 rows)
    """

    name: str
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    paraphrased: tuple[str, ...] | None = None
    wrong: tuple[tuple[str, ...], ...] | None = None
