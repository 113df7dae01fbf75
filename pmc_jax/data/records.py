"""The five kinds of rows that enter the library, as tuples of strings.

`ForgetSet` has no field for an answer: the type itself guarantees that PMC never reads the true
answers. They can enter only through `EvalSet`, which only evaluation imports, `FinetuneSet`, which
only fine-tuning imports, and `ForgetAnswerSet`, which only the methods that train on them import.
This module reads no files and imports no tokenizer and no jax.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Self

from pmc_jax.errors import UserError


class _Rows:
    """Base class of the record types: columns of equal length with unique ids."""

    def __post_init__(self) -> None:
        """Checks the columns.

        Raises:
            UserError: a column is not a tuple of strings, the columns differ in length, or an id
                is repeated.
        """
        kind = type(self).__name__
        columns = {name: getattr(self, name) for name in self._column_names()}
        for name, values in columns.items():
            for texts in values if name == "wrong" else [values]:
                if not isinstance(texts, tuple) or not all(isinstance(v, str) for v in texts):
                    raise UserError(f"{kind}: '{name}' must be a tuple of str")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise UserError(f"{kind}: the columns differ in length ({counts})")
        repeated = [row_id for row_id, count in Counter(self.ids).items() if count > 1]
        if repeated:
            raise UserError(
                f"{kind}: ids must be unique, but '{repeated[0]}' is used more than once"
            )

    def _column_names(self) -> tuple[str, ...]:
        names = (f.name for f in dataclasses.fields(self) if f.name != "name")
        return tuple(name for name in names if getattr(self, name) is not None)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: Iterable[int]) -> Self:
        """The rows at `indices` (0-based, in that order), as a record of the same type.

        Raises:
            UserError: an index is repeated, so ids would not be unique.
            IndexError: an index is out of range.
        """
        rows = [int(i) for i in indices]
        names = self._column_names()
        return dataclasses.replace(
            self, **{name: tuple(getattr(self, name)[i] for i in rows) for name in names}
        )


@dataclasses.dataclass(frozen=True)
class ForgetSet(_Rows):
    """The sensitive questions only: this type has no field for an answer.

    Args:
        ids: one unique string per row.
        questions: one string per row.
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]


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
    """Pairs that the model must keep."""


class FinetuneSet(_Pairs):
    """Pairs that a target model is trained on before unlearning. Only `finetune` imports this."""


class ForgetAnswerSet(_Pairs):
    """The forget questions with their true answers, for target-based methods. PMC does not import
    this type.
    """


@dataclasses.dataclass(frozen=True)
class EvalSet(_Rows):
    """Pairs that a model's answers are compared with. Only evaluation imports this.

    Args:
        name: key of `data.evaluate`, such as "forget" or "world_facts".
        ids: one unique string per row.
        questions: one string per row.
        answers: the true answers, one string per row.
        paraphrased: the true answers in other words; None = the data have none.
        wrong: several wrong answers per row; None = the data have none.
    """

    name: str
    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    paraphrased: tuple[str, ...] | None = None
    wrong: tuple[tuple[str, ...], ...] | None = None
