"""The replacement answers: the best answer so far to every forget question, and its score.

Host data, strings and floats. It is part of a checkpoint: a resumed run must not sample again what
it has found. The answers are the model's own samples, never a true answer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.errors import UserError
from pmc_jax.scoring.base import is_empty


class ReplacementStore:
    """Best answer and score (lower is better) by question id.

    The rules, of Scholten et al., arXiv 2507.04219, and the authors' code:
    a question is sampled while it has no answer or its score is above 0; an offered answer replaces
    the stored one unless its score is worse, so ties replace.

    Args:
        ids: the question ids, unique, in the order that `replacements` keeps.
        guard_empty: refuse empty answers, so that "" is never trained on. False is
            what the authors' code does.

    Raises:
        ValueError: an id occurs twice.
    """

    def __init__(self, ids: Sequence[str], *, guard_empty: bool = True):
        self.guard_empty = guard_empty
        self._best: dict[str, tuple[str | None, float]] = dict.fromkeys(ids, (None, math.inf))
        if len(self._best) != len(ids):
            raise ValueError("ReplacementStore: question ids must be unique")

    @property
    def replacements(self) -> dict[str, tuple[str | None, float]]:
        """id -> best answer so far and its score, None and inf where there is none. A copy."""
        return dict(self._best)

    def answer(self, id: str) -> str | None:
        """The best answer so far to one question, None if there is none."""
        return self._best[id][0]

    def score(self, id: str) -> float:
        """The score of that answer, inf if there is none."""
        return self._best[id][1]

    def unreplaced(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` with no answer or one with a score above 0, in order, each once."""
        return [id for id in dict.fromkeys(ids) if self.score(id) > 0]

    def offer(self, id: str, answer: str, score: float) -> bool:
        """Stores the answer unless its score is worse than the stored one.

        Returns:
            Whether it was stored. An empty answer never is while `guard_empty` is on.

        Raises:
            KeyError: an id that the store was not made for.
            ValueError: a score that is not finite.
        """
        best = self.score(id)
        score = float(score)
        if not math.isfinite(score):
            raise ValueError(f"the score of an answer to question {id!r} is {score}")
        if score > best or (self.guard_empty and is_empty(answer)):
            return False
        self._best[id] = answer, score
        return True

    def mean_score(self) -> float:
        """Mean score of all stored answers, nan if there are none.

        0 exactly when every stored answer has score 0 (scores being 0 or more).
        """
        scores = [score for _, score in self._best.values() if score < math.inf]
        return sum(scores) / len(scores) if scores else math.nan

    def trainable(self, ids: Sequence[str], max_train_score: float | None = None) -> np.ndarray:
        """Weight of each question's stored answer in the loss.

        Args:
            ids: B question ids.
            max_train_score: an answer with a higher score is not trained on, so that what is
                still close to the original answer is not reinforced. None: no such limit.

        Returns:
            float32 [B]: 1, or 0 for a question with no answer or one above the limit.
        """
        limit = math.inf if max_train_score is None else max_train_score
        weights = [self.answer(id) is not None and self.score(id) <= limit for id in ids]
        return np.array(weights, np.float32)

    def state_dict(self) -> dict[str, Any]:
        """A JSON-able copy for `load_state_dict`. No answer has score None."""
        return {
            "guard_empty": self.guard_empty,
            "ids": list(self._best),
            "answers": [answer for answer, _ in self._best.values()],
            "scores": [score if score < math.inf else None for _, score in self._best.values()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            UserError: the state is damaged, or its questions are not those of this store.
        """
        ids, answers, scores = state["ids"], state["answers"], state["scores"]
        if not len(ids) == len(answers) == len(scores) == len(set(ids)):
            raise UserError(
                "the checkpoint's store of replacement answers is damaged; resume from another step"
            )
        if list(ids) != list(self._best):
            raise UserError(
                f"the checkpoint stores answers to {len(ids)} forget questions, which are not the "
                f"{len(self._best)} of data.forget in their order; resume with the data it began "
                "with"
            )
        best = {}
        for id, answer, score in zip(ids, answers, scores, strict=True):
            if (answer is None) != (score is None):
                raise UserError(
                    f"the checkpoint's store of replacement answers is damaged at question {id!r}; "
                    "resume from another step"
                )
            best[id] = answer, math.inf if score is None else float(score)
        self.guard_empty, self._best = state["guard_empty"], best
