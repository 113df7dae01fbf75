"""Stores the replacement answers: the best answer so far to every forget question.

The store is a part of every checkpoint, so a resumed run does not sample the stored answers again.
All answers are the model's own samples. No true answer is read.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.errors import UserError
from pmc_jax.scoring.base import is_empty


class ReplacementStore:
    """Store of the best answer so far and its score by question id. Lower scores are better.

    The rules are those of Scholten et al. (arXiv 2507.04219) and the authors' code. A question is
    sampled as long as it has no answer or an answer with a score above 0. A new answer replaces the
    stored answer unless its score is worse. An answer with an equal score therefore replaces the
    stored answer. Further answers may be stored beside the best answer. Training then draws one of
    all stored answers to the question in each step.

    Args:
        ids: unique question ids, in the order that `replacements` keeps.
        guard_empty: whether to reject empty answers, so that the model is never trained on "". The
            authors' code accepts empty answers (False).

    Raises:
        ValueError: an id occurs twice.
    """

    def __init__(self, ids: Sequence[str], *, guard_empty: bool = True):
        self.guard_empty = guard_empty
        self._best: dict[str, tuple[str | None, float]] = dict.fromkeys(ids, (None, math.inf))
        self._others: dict[str, tuple[str, ...]] = {}
        if len(self._best) != len(ids):
            raise ValueError("ReplacementStore: a question id is repeated. Pass unique ids.")

    @property
    def replacements(self) -> dict[str, tuple[str | None, float]]:
        """Copy of the best answers so far and of their scores, by question id.

        The answer is None and the score is inf for a question without an answer.
        """
        return dict(self._best)

    def answer(self, id: str) -> str | None:
        """Returns the best answer so far to a question, or None if the question has no answer."""
        return self._best[id][0]

    def answers(self, id: str) -> tuple[str, ...]:
        """Returns the best answer so far to a question and the answers beside it."""
        best = self.answer(id)
        return () if best is None else (best, *self._others.get(id, ()))

    def score(self, id: str) -> float:
        """Returns the score of the best answer so far to a question, or inf without an answer."""
        return self._best[id][1]

    def unreplaced(self, ids: Iterable[str]) -> list[str]:
        """Returns the ids that have no answer or an answer with a score above 0.

        The order is that of `ids`. An id that occurs twice is returned once.
        """
        return [id for id in dict.fromkeys(ids) if self.score(id) > 0]

    def offer(self, id: str, answer: str, score: float, others: Sequence[str] = ()) -> bool:
        """Stores an answer unless its score is worse than the score of the stored answer.

        Args:
            others: further answers with the same score.

        Returns:
            True if the answer was stored. An empty answer is never stored if `guard_empty` is True.

        Raises:
            KeyError: the store does not contain the id.
            ValueError: the score is not finite.
        """
        best = self.score(id)
        score = float(score)
        if not math.isfinite(score):
            raise ValueError(
                f"The score of an answer to question {id!r} must be finite, but it is {score}. "
                "Return finite scores from the score function."
            )
        if score > best or (self.guard_empty and is_empty(answer)):
            return False
        self._best[id] = answer, score
        self._others[id] = tuple(others)
        return True

    def mean_score(self) -> float:
        """Returns the mean score of all stored answers, or nan if no answer is stored.

        The scores of this package are at least 0, so their mean is 0 only if every stored answer
        has score 0.
        """
        scores = [score for _, score in self._best.values() if score < math.inf]
        return sum(scores) / len(scores) if scores else math.nan

    def trainable(self, ids: Sequence[str], max_train_score: float | None = None) -> np.ndarray:
        """Returns the weight of each question's stored answer in the loss.

        Args:
            ids: B question ids.
            max_train_score: highest score with which an answer is trained on. The limit prevents
                training on answers that are still similar to the original answer. None sets no
                limit.

        Returns:
            Weights float32 [B]. A weight is 0 if the question has no answer or an answer with a
            score above the limit, else 1.
        """
        limit = math.inf if max_train_score is None else max_train_score
        weights = [self.answer(id) is not None and self.score(id) <= limit for id in ids]
        return np.array(weights, np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Returns a copy of the state as JSON values, for `load_state_dict`.

        The score of a question without an answer is None.
        """
        return {
            "guard_empty": self.guard_empty,
            "ids": list(self._best),
            "answers": [answer for answer, _ in self._best.values()],
            "others": [list(self._others.get(id, ())) for id in self._best],
            "scores": [score if score < math.inf else None for _, score in self._best.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `state_dict` returned.

        Raises:
            UserError: the state is damaged, or its questions differ from those of this store.
        """
        ids, answers, scores = state["ids"], state["answers"], state["scores"]
        others = state["others"]
        if not len(ids) == len(answers) == len(scores) == len(others) == len(set(ids)):
            raise UserError(
                "the replacement answers in the checkpoint are damaged: the lists differ in length "
                "or an id is repeated. Delete this checkpoint to resume from an earlier step."
            )
        if list(ids) != list(self._best):
            raise UserError(
                f"the checkpoint's {len(ids)} forget questions differ from the {len(self._best)} "
                "questions of data.forget. Resume with the data of the interrupted run."
            )
        best = {}
        for id, answer, score in zip(ids, answers, scores, strict=True):
            if (answer is None) != (score is None):
                raise UserError(
                    f"the replacement answer to question {id!r} in the checkpoint is damaged. "
                    "Delete this checkpoint to resume from an earlier step."
                )
            best[id] = answer, math.inf if score is None else float(score)
        self.guard_empty, self._best = state["guard_empty"], best
        self._others = {id: tuple(texts) for id, texts in zip(ids, others, strict=True)}
