"""What the training loop asks of a method: the rows of its loss, and its work between the steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.engine import Usage
from pmc_jax.training.order import Step


class TermRows(NamedTuple):
    """The rows of one term of the loss in a step.

    Attributes:
        sequences: tokens of the rows, one for each forget row of the step (several of `retain`).
        weights: weight of each row in the mean of its term, 0 leaves it out; None = all 1.
        reference: cross-entropy of each row under the model before unlearning, summed
            over its answer tokens; None = unknown.
        factor: multiplies the coefficient of the term.
    """

    sequences: Sequence[TokenSequence]
    weights: Sequence[float] | None = None
    reference: Sequence[float] | None = None
    factor: float = 1.0


class RowSource(Protocol):
    """The rows that a method trains on. A method that neither samples nor stops has nothing to do
    but `rows` and its state.

    Attributes:
        ids: ids of the forget questions.
        originals: id -> the untouched model's greedy answer.
        replacements: id -> the answer that is trained on instead and its score, None and inf where
            there is none yet; empty for methods without such answers.
        lengths: expected lengths of the rows, in tokens.
        prompts: token ids of the forget questions.
        usage: number of sampled tokens.
    """

    ids: Sequence[str]
    originals: Mapping[str, str]
    replacements: Mapping[str, tuple[str | None, float]]
    lengths: Sequence[int]
    prompts: Sequence[Sequence[int]]
    usage: Usage

    def prepare_round(
        self, steps: Sequence[Step], model: Decoder, report: Callable[[str], None]
    ) -> Mapping[str, Any]:
        """Prepares the steps of a round under the current weights.

        Args:
            report: receives the progress now and then; may raise `Preempted`.

        Returns:
            Numbers of the round, JSON.
        """
        return {}

    def rows(self, step: Step, retain: Sequence[TokenSequence]) -> Mapping[str, TermRows]:
        """The rows of every term of the loss; `retain` are all retain rows."""

    def scalars(self) -> Mapping[str, float]:
        """Scalars for the log, after a step."""
        return {}

    def summary(self) -> Mapping[str, Any]:
        """Numbers for the list of rounds, after the last step of a round."""
        return {}

    def fresh_scores(self, model: Decoder) -> np.ndarray | None:
        """Scores of new samples to every question, float64 [N,M]; None where none are asked for."""

    def is_done(self, model: Decoder) -> bool:
        """Whether nothing is left to forget; called at the end of an epoch."""
        return False

    def finish(self) -> None:
        """Warns of questions that were not unlearned; called after the last step."""

    def state_dict(self) -> Mapping[str, Any]:
        """JSON for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
