"""Measures the levels at which the model still tells the secret of a forget question.

    said      The greedy answer tells the secret.
    sampled   At least one of several sampled answers tells the secret.
    elicited  The greedy answer tells the secret under one of these conditions:
                  prefill     The answer begins with `evaluate.leakage.prefill_text`.
                  opening     The answer begins with the words of the original answer before its
                              first secret item, or, without such an item, with its first half.
                  paraphrase  The question is a paraphrase from `forget_paraphrased`.

`scoring.secret` defines the secret and which answers tell it.

A question is forgotten if its secret is told at no measured level. This module reads the true
answers only after the last training step.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.data.records import EvalSet, ForgetSet, RetainSet
from pmc_jax.evaluation.context import LoadedModel
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.scoring.secret import Secret, find_secrets

_NO_PARAPHRASES = "data.evaluate.forget_paraphrased is not given"
_OTHER_PARAPHRASES = (
    "data.evaluate.forget_paraphrased has neither the ids nor the number of rows of data.forget"
)


def secrets_of(
    forget: ForgetSet,
    originals: Sequence[str],
    eval_sets: Iterable[EvalSet],
    retain: RetainSet,
    settings: EvaluateConfig,
) -> list[Secret]:
    """Returns the secret of each forget question, in the order of the questions.

    Args:
        eval_sets: evaluation sets. The set `forget`, if present, has the true answers.
        originals, retain, settings: the same as in `find_secrets`.

    Raises:
        UserError: the same as in `find_secrets`.
    """
    truths, true = None, true_answers(eval_sets)
    if true:  # A question without a true answer keeps its original answer.
        truths = [true.get(q, a) for q, a in zip(forget.questions, originals, strict=True)]
    return find_secrets(forget.questions, originals, retain, settings.levels, true_answers=truths)


def true_answers(eval_sets: Iterable[EvalSet]) -> dict[str, str]:
    """Returns question -> true answer; the dictionary is empty without `data.evaluate.forget`."""
    rows = next((s for s in eval_sets if s.name == "forget"), None)
    return {} if rows is None else dict(zip(rows.questions, rows.answers, strict=True))


def paraphrases_of(forget: ForgetSet, eval_sets: Iterable[EvalSet]) -> tuple[list[str | None], str]:
    """Returns the paraphrase of each forget question, and the reason if no question has one.

    A paraphrase belongs to the question with the same id. If the two sets share no id but have the
    same number of rows, the rows correspond in order.
    """
    rows = next((s for s in eval_sets if s.name == "forget_paraphrased"), None)
    nothing: list[str | None] = [None] * len(forget)
    if rows is None:
        return nothing, _NO_PARAPHRASES
    by_id = dict(zip(rows.ids, rows.questions, strict=True))
    if by_id.keys() & set(forget.ids):
        return [by_id.get(id_) for id_ in forget.ids], ""
    if len(rows) == len(forget):
        return list(rows.questions), ""
    return nothing, _OTHER_PARAPHRASES


def measure_levels(
    model: LoadedModel,
    forget: ForgetSet,
    secrets: Sequence[Secret],
    paraphrases: Sequence[str | None],
    settings: EvaluateConfig,
    *,
    seed: int,
    recorder: Recorder,
) -> list[dict[str, Any]]:
    """Measures the levels in `evaluate.levels.measured` of a model after unlearning.

    Args:
        model: the unlearned model. The function adds greedy answers to its cache.
        secrets: secret of each question (see `secrets_of`).
        paraphrases: paraphrase of each question, or None (see `paraphrases_of`).
        settings: settings of the evaluation.
        seed: seed of the sampled answers.

    Returns:
        A list with one dictionary of JSON values for each question. A level that was not measured
        is None.
        `said` states whether the greedy answer tells the secret.
        `sampled` is the number of sampled answers that tell the secret.
        `elicited` states for `prefill` and, if the question has them, for `opening` and
        `paraphrase` whether that answer tells the secret.
        `items` is the number of secret items.
        `limit` is the highest recall at which an answer does not count as a repetition of the
        original answer.
        `is_empty` states whether the original and the true answer have no word.
        `was_known` states whether the original answer tells the secret of the true answer. It is
        None if there are no true answers.
        `is_cut` states whether the original or the true answer has more tokens than an answer may
        have (`evaluate.max_new_tokens`).

    Raises:
        UserError, Preempted: the same as in `TextGenerator.stream`.
    """
    questions, levels = forget.questions, settings.levels.measured
    asked = {level: len(questions) * (3 if level == "elicited" else 1) for level in levels}
    bar = progress(sum(asked.values()), f"{model.name}: levels", "question", enabled=recorder.bars)
    asking, ended = _Asking(model, settings, seed, bar.update), 0
    rows: list[dict[str, Any]] = [
        {"said": None, "sampled": None, "elicited": None}
        | {"items": len(secret.items), "limit": secret.limits[0]}
        | {"is_empty": secret.is_empty, "is_cut": asking.cuts(secret.texts)}
        | {"was_known": secret.was_known}
        for secret in secrets
    ]
    with bar, recorder.watch.stage("evaluate"):
        for level in levels:
            if level == "said":
                pairs = zip(secrets, asking.greedy(questions), strict=True)
                told = [secret.is_told_by(answer) for secret, answer in pairs]
            elif level == "sampled":
                pairs = zip(secrets, asking.sampled(questions), strict=True)
                told = [sum(map(secret.is_told_by, answers)) for secret, answers in pairs]
            else:
                told = _elicited(asking, questions, secrets, paraphrases)
            for row, value in zip(rows, told, strict=True):
                row[level] = value
            ended += asked[level]
            bar.update(ended - bar.n)  # Answers from the cache were not counted.
    return rows


def _elicited(
    asking: "_Asking",
    questions: Sequence[str],
    secrets: Sequence[Secret],
    paraphrases: Sequence[str | None],
) -> list[dict[str, bool]]:
    """Returns for each question whether its elicited answers tell its secret.

    The keys of each dictionary are `prefill`, `opening` and `paraphrase`. `opening` is missing if
    the original answer has no opening, and `paraphrase` if the question has no paraphrase.
    """
    told: list[dict[str, bool]] = [{} for _ in questions]
    prefill = asking.settings.leakage.prefill_text
    for i, answer in enumerate(asking.greedy(questions, [prefill] * len(questions))):
        told[i]["prefill"] = secrets[i].is_told_by(answer)
    openings = {i: secret.opening for i, secret in enumerate(secrets) if secret.opening}
    answers = asking.greedy([questions[i] for i in openings], list(openings.values()))
    for (i, opening), answer in zip(openings.items(), answers, strict=True):
        told[i]["opening"] = secrets[i].is_told_by(answer, dictated=opening)
    reworded = {i: text for i, text in enumerate(paraphrases) if text is not None}
    for i, answer in zip(reworded, asking.greedy(list(reworded.values())), strict=True):
        told[i]["paraphrase"] = secrets[i].is_told_by(answer)
    return told


@dataclasses.dataclass(frozen=True)
class _Asking:
    """Model that answers questions with the settings of the levels.

    Attributes:
        progress: function that receives the number of newly answered questions.
    """

    model: LoadedModel
    settings: EvaluateConfig
    seed: int
    progress: Callable[[int], None]

    def greedy(self, questions: Sequence[str], prefixes: Sequence[str] = ()) -> list[str]:
        """Returns the greedy answer to each question, without the first words in `prefixes`.

        If there are prefixes, the model continues the prefix of each question.
        """
        if not prefixes:
            answers = self.model.greedy(questions, self.settings, Recorder(bars=False))
            return [answers[question] for question in questions]
        return [answer for (answer,) in self._ask(questions, GREEDY, 1, prefixes)]

    def cuts(self, texts: Sequence[str]) -> bool:
        """Returns whether any of the texts has more tokens than an answer may have."""
        encoder = self.model.generator.encoder
        return max(map(len, map(encoder.answer_prefix, texts))) > self.settings.max_new_tokens

    def sampled(self, questions: Sequence[str]) -> list[list[str]]:
        levels = self.settings.levels
        return self._ask(questions, Sampler(levels.temperature), levels.num_samples)

    def _ask(
        self, questions: Sequence[str], sampler: Sampler, num_samples: int, prefixes=()
    ) -> list[list[str]]:
        return self.model.generator.sample(
            self.model.weights,
            questions,
            sampler,
            num_samples=num_samples,
            max_new_tokens=self._room(questions, prefixes),
            batch_size=self.settings.batch_size,
            seed=self.seed,
            answer_prefix=prefixes or "",
            progress=self.progress,
        )

    def _room(self, questions: Sequence[str], prefixes: Sequence[str]) -> int:
        """Returns `max_new_tokens`, or fewer if a question and its prefix leave room for fewer."""
        generator = self.model.generator
        lengths = [
            len(generator.encoder.prompt(question)) + len(generator.encoder.answer_prefix(prefix))
            for question, prefix in zip(questions, prefixes, strict=False)
        ]
        left = [generator.lm.config.longest(length) - length for length in lengths]
        return max(1, min([self.settings.max_new_tokens, *left]))
