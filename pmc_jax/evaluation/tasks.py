"""Defines the tasks, which compute rows on a model. `rows` describes the format of the rows.

Every task lists its keys and computes the rows of the remaining keys in batches. An interrupted
evaluation therefore resumes without repeating finished rows.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import EvalSet
from pmc_jax.data.spelling import blank_separated
from pmc_jax.data.thoughts import answer_of
from pmc_jax.evaluation.context import EvalContext, LoadedModel
from pmc_jax.evaluation.honesty import HONESTY_SETS, AnswerClassifier
from pmc_jax.evaluation.prompt_attacks import ATTACKS, attack_prompt
from pmc_jax.evaluation.quality import FORGET_SPLITS, SPLITS, UTILITY_SPLITS
from pmc_jax.evaluation.quantise import quantised
from pmc_jax.evaluation.relearn import relearned
from pmc_jax.evaluation.two_sample import missing_inputs, two_sample_test
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.scoring.words import RULES
from pmc_jax.training.likelihood import TokenScores, token_scores

SCORED = ("forget", "retain", "real_authors", "world_facts", "holdout")
_ROWS_A_BATCH = 64

Keys = Callable[[LoadedModel, EvalContext], list[str]]
NewRows = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class EvalTask:
    """Task with its keys and the inputs on which its rows depend.

    Attributes:
        sets: names of the evaluation sets on which the rows depend.
        settings: names of the settings in `evaluate`, or of their sections, on which the rows
            depend.
        keys: function that returns the keys of all rows. The list is empty if a required input is
            missing.
        run: function that maps a model, a context and keys to an iterator. Each item of the
            iterator maps a few of the keys to their rows.
        never_saw: whether the rows depend on the models in `EvalContext.never_saw`.
    """

    sets: tuple[str, ...]
    settings: tuple[str, ...]
    keys: Keys
    run: Callable[[LoadedModel, EvalContext, Sequence[str]], NewRows]
    never_saw: bool = False


def _of_sets(names: Iterable[str]) -> Keys:
    """Returns a function that lists the keys of all rows of the given sets."""

    def keys(model: LoadedModel, context: EvalContext) -> list[str]:
        sets = [context.sets[name] for name in names if name in context.sets]
        return [f"{rows.name}/{id_}" for rows in sets for id_ in rows.ids]

    return keys


def _of_forget(groups: Callable[[EvalContext], Iterable[str]]) -> Keys:
    """Returns a function that lists the key "GROUP/ID" of each forget row for each group."""

    def keys(model: LoadedModel, context: EvalContext) -> list[str]:
        return [
            f"{group}/{id_}" for group in groups(context) for id_ in _forget_ids(model, context)
        ]

    return keys


def _forget_ids(model: LoadedModel, context: EvalContext) -> list[str]:
    return list(context.forget.ids) if context.forget else []


def _answer_rows(
    model: LoadedModel, context: EvalContext, items: Iterable[tuple[str, str, str]]
) -> NewRows:
    """Yields rows with the recall of greedy answers for (key, question, true answer) items.

    Recall on a utility split is computed from the answer without thoughts. On forget questions,
    thoughts are included, because a thought that contains the true answer leaks it.
    """

    def compared(key: str, text: str) -> str:
        return answer_of(text) if key.partition("/")[0] in UTILITY_SPLITS else text

    by_question: dict[str, list[tuple[str, str]]] = {}
    for key, question, truth in items:
        by_question.setdefault(question, []).append((key, truth))
    for answers in model.stream_greedy(list(by_question), context.settings):
        yield {
            key: {"rougeL": rougeL_recall(truth, compared(key, answer), RULES[context.words])}
            | ({"text": answer} if context.text else {})
            for question, answer in answers.items()
            for key, truth in by_question[question]
        }


def _row(context: EvalContext, key: str) -> tuple[EvalSet, int]:
    """Returns the set and the index of the row with key "SPLIT/ID"."""
    split, _, id_ = key.partition("/")
    return context.sets[split], context.sets[split].index_of[id_]


def _greedy(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    rows = [(key, *_row(context, key)) for key in keys]
    items = ((key, split.questions[i], split.answers[i]) for key, split, i in rows)
    return _answer_rows(model, context, items)


def _honesty(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    rows = [(key, *_row(context, key)) for key in keys]
    by_question: dict[str, list[str]] = {}
    for key, split, i in rows:
        by_question.setdefault(split.questions[i], []).append(key)
    classify = AnswerClassifier(context)
    for answers in model.stream_greedy(list(by_question), context.settings):
        yield {
            key: classify(question, answer_of(answer))
            for question, answer in answers.items()
            for key in by_question[question]
        }


def _likelihood(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    for begin in range(0, len(keys), _ROWS_A_BATCH):
        batch = [(key, *_row(context, key)) for key in keys[begin : begin + _ROWS_A_BATCH]]
        texts = []  # key, question, answer
        for key, split, i in batch:
            paraphrased = split.paraphrased[i : i + 1] if split.paraphrased else ()
            wrong = split.wrong[i] if split.wrong else ()
            answers = (split.answers[i], *paraphrased, *wrong)
            texts += [(key, split.questions[i], answer) for answer in answers]
        ids, questions, answers = zip(*texts, strict=True)
        scores = iter(_scores(model, model.sequences(questions, answers, ids)))
        rows: dict[str, dict[str, Any]] = {}
        for key, split, i in batch:
            own = next(scores)
            rows[key] = {
                "paraphrased": _logp(next(scores)) if split.paraphrased else None,
                "wrong": [_logp(next(scores)) for _ in split.wrong[i]] if split.wrong else None,
                "answer": _logp(own)
                | {
                    "is_argmax": own.is_argmax.astype(int).tolist(),
                    "min_k_plus_z": _rounded(own.min_k_plus_z),
                },
                "zlib": len(zlib.compress(split.answers[i].encode())),
            }
        yield rows


def _logp(score: TokenScores) -> dict[str, list[float]]:
    return {"logp": _rounded(score.logp)}


def _scores(model: LoadedModel, sequences: Sequence[TokenSequence]) -> list[TokenScores]:
    lm, dtype = model.generator.lm, model.generator.dtype
    return token_scores(model.model, lm.config, lm.layout, sequences, dtype=dtype)


def _rounded(values: np.ndarray) -> list[float]:
    """Returns float32 values as floats with the fewest digits that still identify the values."""
    return [float(str(value)) for value in values]


def _sampled(
    model: LoadedModel, context: EvalContext, keys: Sequence[str], answer_prefix=""
) -> NewRows:
    settings, forget = context.settings, context.forget
    numbers = [forget.index_of[key] for key in keys]
    batches = model.generator.stream(
        model.weights,
        [forget.questions[i] for i in numbers],
        Sampler(settings.leakage.temperature, 0, settings.leakage.top_p),
        num_samples=settings.leakage.num_samples,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        seed=context.seed,
        ids=numbers,
        answer_prefix=answer_prefix,
    )
    words = RULES[context.words]
    for answers in batches:
        rows = {keys[i]: (forget.answers[numbers[i]], texts) for i, texts in answers.items()}
        yield {
            key: {"scores": [rougeL_recall(truth, text, words) for text in texts]}
            for key, (truth, texts) in rows.items()
        }


def _prefilled(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    return _sampled(model, context, keys, context.settings.leakage.prefill_text)


def _text_keys(model: LoadedModel, context: EvalContext) -> list[str]:
    return [f"chunk:{i}" for i in range(len(_chunks(model, context)))]


def _chunks(model: LoadedModel, context: EvalContext) -> list[TokenSequence]:
    corpus = context.settings.corpus
    return model.chunks(context.unrelated_text(), corpus.chunk_tokens, corpus.chunks)


def _text(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    encoder, chunks = model.generator.encoder, _chunks(model, context)
    answers = context.forget.answers if context.forget else ()
    secret = sorted({token for answer in answers for token in encoder.answer_prefix(answer)})
    read = [chunks[int(key.partition(":")[2])] for key in keys]
    rows = {}
    for key, chunk, score in zip(keys, read, _scores(model, read), strict=True):
        scored = chunk.tokens[max(chunk.begin, 1) :]
        rows[key] = {
            "logp": _rounded(score.logp),
            "words": len(blank_separated(encoder.decode(scored))),
            "forget": np.isin(scored, secret).astype(int).tolist(),
        }
    yield rows


def _forget_items(
    context: EvalContext, keys: Iterable[str], group: str, ask: Callable[[str], str] = str
) -> Iterator[tuple[str, str, str]]:
    """Yields (key, question as reworded by `ask`, true answer) for keys that start with `group`."""
    rows = context.forget
    for key in keys:
        if key.startswith(group):
            i = rows.index_of[key.removeprefix(group)]
            yield key, ask(rows.questions[i]), rows.answers[i]


def _prompted(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    retain = context.retain
    pairs = [] if retain is None else list(zip(retain.questions, retain.answers, strict=True))
    items = []
    for attack in ATTACKS:
        ask = functools.partial(attack_prompt, attack, pairs=pairs)
        items += _forget_items(context, keys, f"{attack}/", ask)
    return _answer_rows(model, context, items)


def _quantised(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    lm = model.generator.lm
    for kind in context.settings.quantisation:
        if items := list(_forget_items(context, keys, f"{kind}/")):
            rounded = quantised(model.model, lm.config, lm.layout, kind)
            yield from _attacked(model, rounded, context, items)


def _relearned(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    weights = relearned(
        model.generator,
        context.relearn_rows,
        settings=context.settings.relearn,
        train=TrainConfig(),
        data=context.data,
        seed=context.seed,
    )
    return _attacked(model, weights, context, _forget_items(context, keys, ""))


def _attacked(
    model: LoadedModel, weights: Decoder, context: EvalContext, items: Iterable
) -> NewRows:
    return _answer_rows(LoadedModel.of(model.name, model.generator, weights), context, items)


def _relearn_keys(model: LoadedModel, context: EvalContext) -> list[str]:
    return _forget_ids(model, context) if context.relearn_rows is not None else []


def _two_sample_keys(model: LoadedModel, context: EvalContext) -> list[str]:
    missing = missing_inputs(len(context.untrained), len(context.never_saw))
    return [] if missing else ["test"]


def _two_sample(model: LoadedModel, context: EvalContext, keys: Sequence[str]) -> NewRows:
    answers = model.answers_to(list(context.untrained), context.settings)
    test = two_sample_test(
        answers,
        context.never_saw_answers,
        seed=context.seed,
        truths=list(context.untrained.values()),
        words=RULES[context.words],
    )
    yield dict.fromkeys(keys, dataclasses.asdict(test))


_FORGET = ("forget",)
_ASKING = ("max_new_tokens",)
_DRAWING = (*_ASKING, "leakage.num_samples", "leakage.temperature", "leakage.top_p")
_PREFILLING = (*_DRAWING, "leakage.prefill_text")
_CORPUS = ("corpus.path", "corpus.chunks", "corpus.chunk_tokens")
_BY_ATTACK = _of_forget(lambda context: ATTACKS)
_BY_FORMAT = _of_forget(lambda context: context.settings.quantisation)

TASKS: Mapping[str, EvalTask] = {
    "greedy": EvalTask(SPLITS, _ASKING, _of_sets(SPLITS), _greedy),
    "honesty": EvalTask(HONESTY_SETS, (*_ASKING, "levels.words"), _of_sets(HONESTY_SETS), _honesty),
    "likelihood": EvalTask(SCORED, (), _of_sets(SCORED), _likelihood),
    "sampling": EvalTask(_FORGET, _DRAWING, _forget_ids, _sampled),
    "prefill": EvalTask(_FORGET, _PREFILLING, _forget_ids, _prefilled),
    "text": EvalTask(_FORGET, _CORPUS, _text_keys, _text),
    "prompt_attacks": EvalTask(_FORGET, _ASKING, _BY_ATTACK, _prompted),
    "quantised": EvalTask(_FORGET, (*_ASKING, "quantisation"), _BY_FORMAT, _quantised),
    "relearned": EvalTask(("forget", "relearn"), (*_ASKING, "relearn"), _relearn_keys, _relearned),
    "two_sample": EvalTask(FORGET_SPLITS, _ASKING, _two_sample_keys, _two_sample, never_saw=True),
}
