"""Defines the interface through which a method provides rows to the training loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from pmc_jax.data.encode import TokenSequence
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.batching import Usage
from pmc_jax.training.order import Step


class TermRows(NamedTuple):
    """Rows of one loss term in a step.

    Attributes:
        sequences: tokens of the rows. For each forget question of the step, the term `retain` has
            `pmc.schedule.retain_rows` rows, and any other term has one row.
        weights: weight of each row in the mean of the term. A row with weight 0 is left out. None
            means that every weight is 1.
        reference: cross-entropy of each row under the model before unlearning, summed over its
            answer tokens. None means that the loss does not read it.
        factor: factor that multiplies the coefficient of the term.
    """

    sequences: Sequence[TokenSequence]
    weights: Sequence[float] | None = None
    reference: Sequence[float] | None = None
    factor: float = 1.0


class RowSource(Protocol):
    """Source of the rows that a method trains on.

    A method that neither samples nor stops early implements only `rows` and the state methods.

    Attributes:
        ids: ids of the forget questions.
        originals: original answer by question id.
        replacements: replacement answer and its score by question id. The answer is None and the
            score is inf for a question without a replacement answer. The mapping is empty for
            methods without replacement answers.
        lengths: expected lengths of the rows, in tokens.
        prompts: token ids of the forget questions' prompts.
        usage: counters of the sampled tokens.
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
            steps: the steps of the round.
            model: the model with the current weights.
            report: function to call with a text about the progress. The function may raise
                `Preempted`.

        Returns:
            Metrics of the round, as JSON values.
        """
        return {}

    def rows(self, step: Step, retain: Sequence[TokenSequence]) -> Mapping[str, TermRows]:
        """Returns the rows of every loss term in a step.

        Args:
            step: indices of the forget questions and the retain rows in the step.
            retain: sequences of all retain rows.
        """

    def scalars(self) -> Mapping[str, float]:
        """Returns the scalars that are logged after a step."""
        return {}

    def summary(self) -> Mapping[str, Any]:
        """Returns metrics that are added to the list of rounds after the last step of a round."""
        return {}

    def fresh_scores(self, model: Decoder) -> np.ndarray | None:
        """Scores new samples for every question.

        Returns:
            Scores float64 [questions, samples], or None if the settings request no new samples.
        """

    def still_answered(self, model: Decoder) -> Sequence[int]:
        """Returns the indices of the questions whose greedy answers still tell their secrets.

        With `pmc.schedule.focus`, the loop calls this method before each round after the warm-up.
        """
        return ()

    def is_done(self, model: Decoder) -> bool:
        """Returns whether all questions are forgotten, so that the run can stop early.

        With `pmc.stop.enabled`, the loop calls this method after each epoch, at the end of a round.
        """
        return False

    def finish(self) -> None:
        """Logs warnings about the run, such as questions without a replacement answer.

        The loop calls this method after the last step.
        """

    def state_dict(self) -> Mapping[str, Any]:
        """Returns the state for a checkpoint as JSON values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a state that `state_dict` returned."""
