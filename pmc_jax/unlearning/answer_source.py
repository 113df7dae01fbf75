"""The rows of methods that train on given answers: the true ones (`ForgetAnswerSet`) or refusals.

The only module of unlearning that may hold true forget answers. PMC does not import it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetAnswerSet, ForgetSet
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.likelihood import token_scores
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.pmc import Step
from pmc_jax.unlearning.refusals import refusal_of
from pmc_jax.unlearning.source import TermRows


class ForgetAnswerSource:
    """A `RowSource`; see there.

    Args:
        generator: the model before unlearning.
        forget: the questions.
        targets: the same questions with their true answers; None = the method reads none.
        refusals: what is answered instead; empty where the method trains on none.
        originals: the untouched model's greedy answers; nothing is trained on them.
        config: of the run.

    Raises:
        UserError: rows that are too long.
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        targets: ForgetAnswerSet | None,
        refusals: Sequence[str],
        *,
        originals: Sequence[str],
        config: Config,
    ):
        method = METHODS[config.method.name]
        assert (targets is not None) == method.reads_true_answers
        self.ids, self._seed, self._method = forget.ids, config.seed, method
        self.originals = dict(zip(forget.ids, originals, strict=True))
        self.prompts = generator.prompts(
            forget.questions, config.pmc.sampling.max_new_tokens, ids=forget.ids
        )
        self._of: dict[str, list[list[TokenSequence]]] = {}  # term -> question -> its sequences

        def encoded(answers: Sequence[str]) -> list[TokenSequence]:
            return generator.sequences(forget.questions, answers, config.data, ids=forget.ids)

        if targets is not None:
            self._of["forget"] = [[one] for one in encoded(targets.answers)]
        if "refusal" in method.terms:
            columns = [encoded([refusal] * len(forget)) for refusal in refusals]
            self._of["refusal"] = [list(row) for row in zip(*columns, strict=True)]
        every = [s for rows in self._of.values() for row in rows for s in row]
        self.lengths = [len(s) for s in every] or [len(p) for p in self.prompts]
        self.longest = max(self.lengths)
        self._reference = {
            name: self._sums(generator, self._of[name]) for name in method.reference_rows
        }

    @staticmethod
    def _sums(
        generator: TextGenerator, rows: Sequence[Sequence[TokenSequence]]
    ) -> list[list[float]]:
        """Cross-entropy of each sequence under the model before unlearning, nats."""
        lm = generator.lm
        flat = [sequence for row in rows for sequence in row]
        found = iter(token_scores(lm.model, lm.config, lm.layout, flat, dtype=generator.dtype))
        return [[-float(next(found).logp.sum(dtype=np.float64)) for _ in row] for row in rows]

    def begin_round(
        self, block: Sequence[Step], model: Decoder, note: Callable[[str], None]
    ) -> Mapping[str, Any]:
        return {}

    def rows(self, step: Step) -> Mapping[str, TermRows]:
        terms = {}
        for name, rows in self._of.items():
            chosen = [(i, refusal_of(self._seed, step.index, i, len(rows[i]))) for i in step.forget]
            sums = self._reference.get(name)
            terms[name] = TermRows(
                [rows[i][k] for i, k in chosen],
                reference=None if sums is None else [sums[i][k] for i, k in chosen],
            )
        return terms

    def scalars(self) -> Mapping[str, float]:
        return {}

    def summary(self) -> Mapping[str, Any]:
        return {}

    def is_done(self, model: Decoder) -> bool:
        return False

    def end(self) -> None:
        pass

    def saved(self) -> Mapping[str, Any]:
        return {"originals": list(self.originals.values())}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self.originals = dict(zip(self.ids, saved["originals"], strict=True))
