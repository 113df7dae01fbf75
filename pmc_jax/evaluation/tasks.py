"""Probes: what is asked of a model on the device; see `record` for the rows that they give.

Every probe names its keys and works through those that are left, in batches, so that work that was
interrupted goes on question by question.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.train import TrainConfig
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation import prompt_attacks
from pmc_jax.evaluation.context import EvalContext, LoadedModel
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.evaluation.quantise import quantised
from pmc_jax.evaluation.relearn import relearned
from pmc_jax.sampling.sampler import GREEDY, Sampler
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.scoring.rouge import rouge1_recall, rougeL_recall
from pmc_jax.training.likelihood import TokenScores, token_scores

SCORED = ("forget", "retain", "real_authors", "world_facts", "holdout")
_ROWS_A_BATCH = 64

Found = Iterator[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class EvalTask:
    """One kind of question to a model.

    Attributes:
        sets: names of the sets that its rows depend on.
        settings: names of the fields of `EvaluateConfig` that they depend on.
        keys: of all its rows; none where something that it needs is not given.
        run: the rows of some keys, a few at a time.
    """

    sets: tuple[str, ...]
    settings: tuple[str, ...]
    keys: Callable[[LoadedModel, EvalContext], list[str]]
    run: Callable[[LoadedModel, EvalContext, Sequence[str]], Found]


def of_sets(names: Iterable[str]) -> Callable[[LoadedModel, EvalContext], list[str]]:
    def keys(subject: LoadedModel, material: EvalContext) -> list[str]:
        there = [material.sets[name] for name in names if name in material.sets]
        return [f"{rows.name}/{id_}" for rows in there for id_ in rows.ids]

    return keys


def of_forget(groups: Callable[[EvalContext], Sequence[str]] | None = None):
    """Keys of the forget rows, once for each group."""

    def keys(subject: LoadedModel, material: EvalContext) -> list[str]:
        ids = material.forget.ids if material.forget else ()
        if groups is None:
            return list(ids)
        return [f"{group}/{id_}" for group in groups(material) for id_ in ids]

    return keys


def answer_row(truth: str, answer: str, *, text: bool) -> dict[str, Any]:
    """The row of one greedy answer; the answer itself where `text` allows it."""
    row = {"rougeL": rougeL_recall(truth, answer), "rouge1": rouge1_recall(truth, answer)}
    return row | ({"text": answer} if text else {})


def _answers(
    subject: LoadedModel,
    weights: SamplingWeights,
    material: EvalContext,
    asked: Iterable[tuple[str, str, str]],
) -> Found:
    """Rows of greedy answers; `asked` are key, question and true answer. Each different question
    is asked once.
    """
    wanted: dict[str, list[tuple[str, str]]] = {}
    for key, question, truth in asked:
        wanted.setdefault(question, []).append((key, truth))
    questions, settings = list(wanted), material.settings
    options = dict(max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)
    for ended in subject.generator.stream(weights, questions, GREEDY, **options):
        yield {
            key: answer_row(truth, answer, text=material.text)
            for i, (answer,) in ended.items()
            for key, truth in wanted[questions[i]]
        }


def _row(material: EvalContext, key: str) -> tuple[EvalSet, int]:
    """The set and the index of "SPLIT/ID"."""
    split, _, id_ = key.partition("/")
    return material.sets[split], material.sets[split].ids.index(id_)


def _greedy(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    rows = [(key, *_row(material, key)) for key in keys]
    asked = ((key, rows.questions[i], rows.answers[i]) for key, rows, i in rows)
    return _answers(subject, subject.weights, material, asked)


def _likelihood(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    for begin in range(0, len(keys), _ROWS_A_BATCH):
        some = keys[begin : begin + _ROWS_A_BATCH]
        texts: list[tuple[str, str, str, str]] = []  # key, kind, question, answer
        for key in some:
            rows, i = _row(material, key)
            kinds = [("answer", rows.answers[i])]
            kinds += [("paraphrased", rows.paraphrased[i])] if rows.paraphrased else []
            kinds += [("wrong", text) for text in (rows.wrong[i] if rows.wrong else ())]
            texts += [(key, kind, rows.questions[i], text) for kind, text in kinds]
        named, kinds, questions, answers = zip(*texts, strict=True)
        scores = _scores(subject, subject.sequences(questions, answers, named))
        found = {key: {"paraphrased": None, "wrong": None} for key in some}
        for key, kind, answer, score in zip(named, kinds, answers, scores, strict=True):
            if kind == "wrong":
                wrong = found[key]["wrong"] or []
                found[key]["wrong"] = [*wrong, {"logp": _rounded(score.logp)}]
            elif kind == "paraphrased":
                found[key]["paraphrased"] = {"logp": _rounded(score.logp)}
            else:
                full = {"hit": score.hit.astype(int).tolist(), "z": _rounded(score.z)}
                found[key]["answer"] = {"logp": _rounded(score.logp)} | full
                found[key]["zlib"] = len(zlib.compress(answer.encode()))
        yield found


def _scores(subject: LoadedModel, sequences) -> list[TokenScores]:
    lm = subject.generator.lm
    return token_scores(
        subject.model, lm.config, lm.layout, sequences, dtype=subject.generator.dtype
    )


def _rounded(values: np.ndarray) -> list[float]:
    """float32 in as few digits as tell it from its neighbours."""
    return [float(str(value)) for value in values]


def _sampled(begin: Callable[[EvalContext], str]):
    def run(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
        settings, rows = material.settings, material.forget
        numbers = [rows.ids.index(key) for key in keys]
        ended = subject.generator.stream(
            subject.weights,
            [rows.questions[i] for i in numbers],
            Sampler(settings.leakage.temperature, 0, settings.leakage.top_p),
            num_samples=settings.leakage.num_samples,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            seed=material.seed,
            numbers=numbers,
            begin=begin(material),
        )
        for answers in ended:
            yield {
                keys[i]: {"scores": [rougeL_recall(rows.answers[numbers[i]], t) for t in texts]}
                for i, texts in answers.items()
            }

    return run


def _text_keys(subject: LoadedModel, material: EvalContext) -> list[str]:
    return [f"chunk:{i}" for i in range(len(_chunks(subject, material)))]


def _chunks(subject: LoadedModel, material: EvalContext):
    settings = material.settings
    text = material.unrelated_text()
    return subject.chunks(text, settings.corpus.chunk_tokens, settings.corpus.chunks)


def _text(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    encoder, chunks = subject.generator.encoder, _chunks(subject, material)
    answers = material.forget.answers if material.forget else ()
    secret = sorted({token for answer in answers for token in encoder.opening(answer)})
    some = [chunks[int(key.partition(":")[2])] for key in keys]
    found = {}
    for key, chunk, score in zip(keys, some, _scores(subject, some), strict=True):
        scored = chunk.tokens[max(chunk.begin, 1) :]
        found[key] = {
            "logp": _rounded(score.logp),
            "words": len(encoder.decode(scored).split()),
            "forget": np.isin(scored, secret).astype(int).tolist(),
        }
    yield found


def _of_forget_row(
    material: EvalContext, key: str, lead: str, ask: Callable[[str], str] = str
) -> tuple[str, str, str]:
    """`key`, "{lead}ID", with question and true answer of this forget row."""
    rows = material.forget
    i = rows.ids.index(key.removeprefix(lead))
    return key, ask(rows.questions[i]), rows.answers[i]


def _prompted(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    retain = material.retain
    pairs = [] if retain is None else list(zip(retain.questions, retain.answers, strict=True))
    asked = []
    for key in keys:
        attack = key.partition("/")[0]
        ask = functools.partial(prompt_attacks.ATTACKS[attack], pairs=pairs)
        asked.append(_of_forget_row(material, key, f"{attack}/", ask))
    return _answers(subject, subject.weights, material, asked)


def _quantised(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    lm = subject.generator.lm
    for kind in material.settings.quantisation:
        lead = f"{kind}/"
        asked = [_of_forget_row(material, key, lead) for key in keys if key.startswith(lead)]
        if asked:
            model = quantised(subject.model, lm.config, lm.layout, kind)
            yield from _answers(subject, subject.generator.snapshot(model), material, asked)


def _relearned(subject: LoadedModel, material: EvalContext, keys: Sequence[str]) -> Found:
    model = relearned(
        subject.generator,
        material.relearn_rows,
        settings=material.settings.relearn,
        train=TrainConfig(),
        data=material.data,
        seed=material.seed,
    )
    asked = [_of_forget_row(material, key, "") for key in keys]
    yield from _answers(subject, subject.generator.snapshot(model), material, asked)


def _relearn_keys(subject: LoadedModel, material: EvalContext) -> list[str]:
    return of_forget()(subject, material) if material.relearn_rows is not None else []


_ASKING = ("max_new_tokens",)
_DRAWING = (
    *_ASKING,
    *(f"leakage.{name}" for name in ("num_samples", "temperature", "top_p")),
)

PROBES: Mapping[str, EvalTask] = {
    "greedy": EvalTask(SPLITS, _ASKING, of_sets(SPLITS), _greedy),
    "likelihood": EvalTask(SCORED, (), of_sets(SCORED), _likelihood),
    "sampling": EvalTask(("forget",), _DRAWING, of_forget(), _sampled(lambda material: "")),
    "prefill": EvalTask(
        ("forget",),
        (*_DRAWING, "leakage.prefill_text"),
        of_forget(),
        _sampled(lambda material: material.settings.leakage.prefill_text),
    ),
    "text": EvalTask(
        ("forget",), ("corpus.path", "corpus.chunks", "corpus.chunk_tokens"), _text_keys, _text
    ),
    "prompt_attacks": EvalTask(
        ("forget",), _ASKING, of_forget(lambda material: list(prompt_attacks.ATTACKS)), _prompted
    ),
    "quantised": EvalTask(
        ("forget",), _ASKING, of_forget(lambda material: material.settings.quantisation), _quantised
    ),
    "relearned": EvalTask(("forget", "relearn"), (*_ASKING, "relearn"), _relearn_keys, _relearned),
}
