"""What models are evaluated on, and one model that is evaluated."""

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import DataConfig, EvaluateConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.lines import read_text
from pmc_jax.data.records import EvalSet, RetainSet
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY
from pmc_jax.sampling.snapshot import SamplingWeights


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """The same for all models.

    Attributes:
        sets: by name, of `config.EVALUATION_SETS`.
        retain: pairs that a prompt may show, and that relearning trains on where no others are
            given; None = there are none.
        settings, data, seed: of the run.
        text: whether rows may hold the model's answers.
    """

    sets: Mapping[str, EvalSet]
    retain: RetainSet | None
    settings: EvaluateConfig
    data: DataConfig
    seed: int = 0
    text: bool = False

    @property
    def forget(self) -> EvalSet | None:
        return self.sets.get("forget")

    @property
    def relearn_rows(self) -> EvalSet | RetainSet | None:
        """What relearning takes its rows from."""
        return self.sets.get("relearn", self.retain)

    def unrelated_text(self) -> str:
        """What `evaluate.corpus.path` names, or the text that the package has.

        Raises:
            UserError: it cannot be read as UTF-8 text.
        """
        name = self.settings.corpus.path
        if name is None:
            file = importlib.resources.files("pmc_jax.evaluation") / "alice.txt"
            return file.read_text(encoding="utf-8")
        text = read_text(name, "evaluate.corpus.path")
        if not text.strip():
            raise UserError(f"evaluate.corpus.path: {name} is empty")
        return text


@dataclasses.dataclass(frozen=True)
class AnswerCache:
    """Greedy answers of one model, so that nothing asks it twice.

    Attributes:
        by_length: `max_new_tokens` -> question -> answer.
    """

    by_length: dict[int, dict[str, str]] = dataclasses.field(default_factory=dict)

    def answers(self, max_new_tokens: int) -> dict[str, str]:
        """Question -> answer; changes of it change the cache."""
        return self.by_length.setdefault(max_new_tokens, {})


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model that is evaluated.

    Attributes:
        name: names its numbers and its progress bars.
        generator: holds the model and its tokenizer.
        cache: of its greedy answers; read and filled.
    """

    name: str
    generator: TextGenerator
    cache: AnswerCache = dataclasses.field(default_factory=AnswerCache)

    @staticmethod
    def of(
        name: str, generator: TextGenerator, model: Decoder, cache: AnswerCache | None = None
    ) -> "LoadedModel":
        """`model` in place of the generator's own."""
        lm = dataclasses.replace(generator.lm, model=model)
        return LoadedModel(name, dataclasses.replace(generator, lm=lm), cache or AnswerCache())

    @property
    def model(self) -> Decoder:
        return self.generator.lm.model

    @functools.cached_property
    def weights(self) -> SamplingWeights:
        """The weights as sampling reads them."""
        return self.generator.snapshot(self.model)

    def stream_greedy(
        self, questions: Sequence[str], settings: EvaluateConfig
    ) -> Iterator[dict[str, str]]:
        """Question -> greedy answer: first those of the cache, the others as they end. Each
        distinct question is asked once.
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
        """Question -> greedy answer, in the order of the questions; see `stream_greedy`."""
        answers: dict[str, str] = {}
        bar = progress(len(set(questions)), self.name, "question", enabled=recorder.bars)
        with bar, recorder.watch.stage("evaluate"):
            for ended in self.stream_greedy(questions, settings):
                answers |= ended
                bar.update(len(ended))
        return {question: answers[question] for question in questions}

    def chunks(self, text: str, size: int, most: int) -> list[TokenSequence]:
        """The tokens of a text in pieces of `size`, each led by the token that begins a text."""
        tokenizer = self.generator.encoder.tokenizer
        tokens, first = tokenizer(text)["input_ids"], tokenizer.bos_token_id
        lead = [first] if tokens and tokens[0] == first else []
        tokens = tokens[len(lead) :]
        starts = range(0, len(tokens) - 1, size)[:most]
        pieces = [[*lead, *tokens[start : start + size]] for start in starts]
        return [TokenSequence(np.array(piece, np.int32), len(lead)) for piece in pieces]

    def sequences(
        self, questions: Sequence[str], answers: Sequence[str], ids: Sequence[str]
    ) -> list[TokenSequence]:
        """Question and answer as in training.

        Raises:
            UserError: one is longer than the model's window.
        """
        longest = DataConfig(max_length=self.generator.lm.config.max_positions)
        return self.generator.sequences(questions, answers, longest, ids=ids)
