"""Holds the data sets of an evaluation and the model that is evaluated."""

import dataclasses
import functools
import gc
import importlib.resources
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.data import DataConfig
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.run import EvaluateConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.lines import read_text
from pmc_jax.data.records import EvalSet, RetainSet
from pmc_jax.errors import UserError, first_of
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY
from pmc_jax.sampling.snapshot import SamplingWeights
from pmc_jax.scoring.words import rule_for, without_words


@dataclasses.dataclass(frozen=True)
class ModelRef:
    """Reference to a model that is loaded only if an evaluation needs it.

    Attributes:
        path: path of the model as reports show it.
        sha256: digest of the model files.
        load: function that loads the model under a given name, with its cached greedy answers.
    """

    path: str
    sha256: str
    load: Callable[[str], "LoadedModel"]


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """Data and settings that all evaluated models share.

    Attributes:
        sets: evaluation sets by their names in `data.evaluate`.
        retain: retain pairs for few-shot prompts, and for relearning if `sets` has no "relearn";
            None if the run has no retain data.
        settings: settings of the evaluation.
        data: settings of the data. Only `words`, `max_length` and `long_rows` are read.
        seed: seed of the random draws.
        text: whether rows may contain the model's answers.
        never_saw: models that never saw the forget rows and differ only in their seed.
        model: settings of prompts and dtypes with which all models are loaded.

    Raises:
        UserError: a true answer has no word, so ROUGE cannot compare answers with it.
    """

    sets: Mapping[str, EvalSet]
    retain: RetainSet | None
    settings: EvaluateConfig
    data: DataConfig
    seed: int = 0
    text: bool = False
    never_saw: tuple[ModelRef, ...] = ()
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig, repr=False)

    def __post_init__(self):
        if wordless := self._wordless(self.words):
            fix = "Set data.words=unicode."
            if wordless == self._wordless("unicode"):
                fix = "Remove these rows."
            raise UserError(
                f"{', '.join(wordless)}: the true answers have no word that ROUGE can compare "
                f"under the rule {self.words}. {fix}"
            )

    def _wordless(self, rule: str) -> list[str]:
        """Returns the name of each compared set that has answers without words, with their ids."""
        return [
            f"data.evaluate.{rows.name} ({first_of(ids, 5)})"
            for rows in self._compared
            if (ids := without_words(rule, rows.ids, rows.answers))
        ]

    @property
    def _compared(self) -> list[EvalSet]:
        """Evaluation sets whose true answers ROUGE compares with answers of the model."""
        return [rows for name, rows in self.sets.items() if name in SPLITS]

    @functools.cached_property
    def words(self) -> str:
        """Name of the rule in `words.RULES` by which ROUGE divides texts into words."""
        references = [answer for rows in self._compared for answer in rows.answers]
        return rule_for(self.data.words, references)

    @property
    def forget(self) -> EvalSet | None:
        return self.sets.get("forget")

    @functools.cached_property
    def untrained(self) -> dict[str, str]:
        """Maps questions of `forget_paraphrased` that are not in `forget` to their true answers."""
        rows = self.sets.get("forget_paraphrased")
        trained = set(self.forget.questions) if self.forget else set()
        pairs = zip(rows.questions, rows.answers, strict=True) if rows else ()
        return {question: answer for question, answer in pairs if question not in trained}

    @functools.cached_property
    def never_saw_answers(self) -> list[list[str]]:
        """Greedy answers of each model in `never_saw` to the questions of `untrained`.

        The models are loaded one after another.
        """
        answers = []
        for ref in self.never_saw:
            answers.append(ref.load("never saw").answers_to(list(self.untrained), self.settings))
            gc.collect()  # frees the model before the next load, because reference cycles hold it
        return answers

    @property
    def relearn_rows(self) -> EvalSet | RetainSet | None:
        """Rows on which the relearning attack trains, or None if no such rows are given."""
        return self.sets.get("relearn", self.retain)

    def unrelated_text(self) -> str:
        """Returns the text in `evaluate.corpus.path`, or the default text of the package.

        Raises:
            UserError: the file is empty or cannot be read as UTF-8 text.
        """
        name = self.settings.corpus.path
        if name is None:
            file = importlib.resources.files("pmc_jax.evaluation") / "alice.txt"
            return file.read_text(encoding="utf-8")
        text = read_text(name, "evaluate.corpus.path")
        if not text.strip():
            raise UserError(
                f"evaluate.corpus.path: the file {name} is empty. Set evaluate.corpus.path to a "
                "file with text, or to null for the default text of the package."
            )
        return text


@dataclasses.dataclass(frozen=True)
class AnswerCache:
    """Cache of the greedy answers of one model, so that no measure generates an answer twice.

    Attributes:
        by_length: maps `max_new_tokens` to a dictionary question -> answer.
    """

    by_length: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict, repr=False)

    def answers(self, max_new_tokens: int) -> dict[str, str]:
        """Returns the cached answers as question -> answer.

        Updates of the returned dictionary update the cache.
        """
        return self.by_length.setdefault(max_new_tokens, {})


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """Model that is evaluated, with its tokenizer and its cached answers.

    Attributes:
        name: label of the model's numbers and progress bars.
        generator: the model and its tokenizer.
        cache: greedy answers of the model. The methods of this class read and extend the cache.
    """

    name: str
    generator: TextGenerator
    cache: AnswerCache = dataclasses.field(default_factory=AnswerCache)

    @staticmethod
    def of(
        name: str, generator: TextGenerator, model: Decoder, cache: AnswerCache | None = None
    ) -> "LoadedModel":
        """Builds a loaded model in which `model` replaces the generator's own model."""
        lm = dataclasses.replace(generator.lm, model=model)
        return LoadedModel(name, dataclasses.replace(generator, lm=lm), cache or AnswerCache())

    @property
    def model(self) -> Decoder:
        return self.generator.lm.model

    @functools.cached_property
    def weights(self) -> SamplingWeights:
        """Copy of the weights in the sharding of the sampler."""
        return self.generator.snapshot(self.model)

    def stream_greedy(
        self, questions: Sequence[str], settings: EvaluateConfig
    ) -> Iterator[dict[str, str]]:
        """Yields greedy answers in dictionaries question -> answer.

        Cached answers come first. A repeated question is answered only once.

        Raises:
            UserError, Preempted: the same as in `TextGenerator.stream`.
        """
        answers = self.cache.answers(settings.max_new_tokens)
        distinct = dict.fromkeys(questions)
        if cached := {question: answers[question] for question in distinct if question in answers}:
            yield cached
        if new := [question for question in distinct if question not in cached]:
            for ended in self._ask(new, settings):
                answers.update(ended)
                yield ended

    def _ask(self, questions: Sequence[str], settings: EvaluateConfig) -> Iterator[dict[str, str]]:
        options = dict(max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)
        for ended in self.generator.stream(self.weights, questions, GREEDY, **options):
            yield {questions[i]: answer for i, (answer,) in ended.items()}

    def greedy(
        self, questions: Sequence[str], settings: EvaluateConfig, recorder: Recorder
    ) -> dict[str, str]:
        """Returns question -> greedy answer in the order of the questions (see `stream_greedy`).

        The time is recorded as time of the stage "evaluate".
        """
        answers: dict[str, str] = {}
        bar = progress(len(set(questions)), self.name, "question", enabled=recorder.bars)
        with bar, recorder.watch.stage("evaluate"):
            for ended in self.stream_greedy(questions, settings):
                answers |= ended
                bar.update(len(ended))
        return {question: answers[question] for question in questions}

    def answers_to(self, questions: Sequence[str], settings: EvaluateConfig) -> list[str]:
        """Returns the greedy answer to each question (see `stream_greedy`)."""
        answers: dict[str, str] = {}
        for ended in self.stream_greedy(questions, settings):
            answers |= ended
        return [answers[question] for question in questions]

    def chunks(self, text: str, size: int, most: int) -> list[TokenSequence]:
        """Splits a text into pieces of `size` tokens, each after a BOS token.

        The last piece may be shorter; a last piece of one token is left out. The pieces have no BOS
        token if the tokenizer does not add one to texts.

        Args:
            text: text to split.
            size: maximum number of tokens in a piece, without the BOS token.
            most: maximum number of pieces, counted from the start of the text.
        """
        lead, tokens = self.generator.encoder.lead, self.generator.encoder.plain(text)
        starts = range(0, len(tokens) - 1, size)[:most]
        pieces = [[*lead, *tokens[start : start + size]] for start in starts]
        return [TokenSequence(np.array(piece, np.int32), len(lead)) for piece in pieces]

    def sequences(
        self, questions: Sequence[str], answers: Sequence[str], ids: Sequence[str]
    ) -> list[TokenSequence]:
        """Returns the token ids of each question with its answer, encoded as in training.

        Args:
            ids: id of each row, which error messages name.

        Raises:
            UserError: a sequence cannot be encoded or is longer than the model's context window.
        """
        return self.generator.sequences(questions, answers, None, ids=ids)
