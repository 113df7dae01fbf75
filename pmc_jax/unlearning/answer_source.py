"""Provides training rows for all methods except PMC and PMC-alignment.

This is the only unlearning module that may hold true forget answers (`ForgetAnswerSet`). PMC does
not import this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetAnswerSet, ForgetSet
from pmc_jax.errors import UserError, about, first_of
from pmc_jax.sampling.batching import Usage
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.likelihood import token_scores
from pmc_jax.training.losses import METHODS
from pmc_jax.training.order import Step
from pmc_jax.unlearning.refusals import refusal_of
from pmc_jax.unlearning.source import RowSource, TermRows


class ForgetAnswerSource(RowSource):
    """`RowSource` of every method except PMC and PMC-alignment.

    Args:
        generator: the model before unlearning.
        forget: the forget questions.
        answers: the forget questions with their true answers, or None if the method reads no true
            answers.
        refusals: refusals to train on. The sequence is empty if the method uses no refusals.
        originals: original answers to the forget questions. The method does not train on them.
        config: settings of the run.

    Raises:
        UserError: a prompt or a row is too long, or cannot be encoded.
    """

    def __init__(
        self,
        generator: TextGenerator,
        forget: ForgetSet,
        answers: ForgetAnswerSet | None,
        refusals: Sequence[str],
        *,
        originals: Sequence[str],
        config: Config,
    ):
        method = METHODS[config.method.name]
        assert (answers is not None) == method.reads_true_answers
        self.ids, self._seed, self._method = forget.ids, config.seed, method
        self.replacements: Mapping[str, tuple[str | None, float]] = {}
        self.usage = Usage()  # The usage stays 0, because the method samples no answers.
        self.originals = dict(zip(forget.ids, originals, strict=True))
        prompts = generator.prompts(
            forget.questions, config.pmc.sampling.max_new_tokens, ids=forget.ids
        )
        self.prompts = list(map(generator.encoder.before_answer, prompts))
        # The outer list of a term has one entry per question, and the inner list its sequences.
        self._rows: dict[str, list[list[TokenSequence]]] = {}

        def encoded(texts: Sequence[str]) -> list[TokenSequence]:
            found = generator.sequences(forget.questions, texts, config.data, ids=forget.ids)
            kept = {sequence.id for sequence in found}
            if long := [id_ for id_ in forget.ids if id_ not in kept]:
                raise UserError(
                    f"data.long_rows=drop: the rows of {len(long)} of {len(forget)} forget "
                    f"questions are too long ({first_of(long, 5)}), but rows of forget questions "
                    "cannot be dropped. Shorten these rows or, up to the model's window, increase "
                    "data.max_length."
                )
            return found

        if answers is not None:
            self._rows["forget"] = [[one] for one in encoded(answers.answers)]
        if "refusal" in method.terms:
            with about("method.refusals"):
                columns = [encoded([refusal] * len(forget)) for refusal in refusals]
            self._rows["refusal"] = [list(row) for row in zip(*columns, strict=True)]
        every = [s for rows in self._rows.values() for row in rows for s in row]
        self.lengths = [len(s) for s in every] or [len(p) for p in self.prompts]
        # `_reference` holds the cross-entropy of each sequence under the model before unlearning.
        self._reference: dict[str, list[list[float]]] = {}
        for name in method.reference_rows:
            lm, rows = generator.lm, self._rows[name]
            flat = [sequence for row in rows for sequence in row]
            scores = token_scores(lm.model, lm.config, lm.layout, flat, dtype=generator.dtype)
            sums = iter([-float(score.logp.sum(dtype=np.float64)) for score in scores])
            self._reference[name] = [[next(sums) for _ in row] for row in rows]

    def rows(self, step: Step, retain: Sequence[TokenSequence]) -> Mapping[str, TermRows]:
        terms = {}
        for name, rows in self._rows.items():
            chosen = [(i, refusal_of(self._seed, step.index, i, len(rows[i]))) for i in step.forget]
            sums = self._reference.get(name)
            terms[name] = TermRows(
                [rows[i][k] for i, k in chosen],
                reference=None if sums is None else [sums[i][k] for i, k in chosen],
            )
        if "retain" in self._method.terms:
            terms["retain"] = TermRows([retain[i] for i in step.retain])
        return terms

    def state_dict(self) -> Mapping[str, Any]:
        return {"originals": list(self.originals.values())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.originals = dict(zip(self.ids, state["originals"], strict=True))
