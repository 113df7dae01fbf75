"""What models are evaluated on, and one model that is."""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pmc_jax.config.run import DataConfig, EvaluateConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.files import one_line
from pmc_jax.data.records import EvalSet, RetainSet
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
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
        try:
            text = Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"evaluate.corpus.path: {name} cannot be read as text ({one_line(error)})"
            ) from error
        if not text.strip():
            raise UserError(f"evaluate.corpus.path: {name} is empty")
        return text


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model that is evaluated, under the name that its numbers get."""

    name: str
    generator: TextGenerator

    @property
    def model(self) -> Decoder:
        return self.generator.lm.model

    @functools.cached_property
    def weights(self) -> SamplingWeights:
        """The weights as sampling reads them."""
        return self.generator.snapshot(self.model)

    def chunks(self, text: str, size: int, most: int) -> list[TokenSequence]:
        """The tokens of a text in pieces of `size`, each led by the token that begins a text."""
        tokenizer = self.generator.encoder.tokenizer
        tokens = tokenizer(text)["input_ids"]
        first = tokenizer.bos_token_id
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
