"""What the loop asks of a method: the rows of its terms, and what happens between the steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pmc_jax.data.encode import TokenSequence
from pmc_jax.models.decoder import Decoder
from pmc_jax.unlearning.pmc import Step


class TermRows(NamedTuple):
    """The rows of one term of the loss in a step.

    Attributes:
        sequences: one a forget row of the step.
        weights: of each in the mean of its term, 0 leaves it out; None = all 1.
        reference: cross-entropy of each under the model before unlearning, nats; None = unknown.
        factor: of the term's coefficient.
    """

    sequences: Sequence[TokenSequence]
    weights: Sequence[float] | None = None
    reference: Sequence[float] | None = None
    factor: float = 1.0


class RowSource(Protocol):
    """The rows that a method trains on beside the retain rows.

    Attributes:
        ids: of the forget questions.
        lengths: of its sequences as expected, in tokens.
        longest: tokens of a sequence at most.
        prompts: token ids of the forget questions.
    """

    ids: Sequence[str]
    lengths: Sequence[int]
    longest: int
    prompts: Sequence[Sequence[int]]

    def begin_round(
        self, block: Sequence[Step], model: Decoder, note: Callable[[str], None]
    ) -> Mapping[str, Any]:
        """Prepares the steps of a round under the weights as they are.

        Args:
            note: is told what is going on, now and then; may raise `Preempted`.

        Returns:
            Numbers of the round, JSON.
        """

    def rows(self, step: Step) -> Mapping[str, TermRows]:
        """By term, all but `retain`."""

    def scalars(self) -> Mapping[str, float]:
        """For the log, after a step."""

    def summary(self) -> Mapping[str, Any]:
        """For the list of rounds, after the last step of one."""

    def is_done(self, model: Decoder) -> bool:
        """Whether nothing is left to forget; asked at the end of an epoch."""

    def end(self) -> None:
        """After the last step: warns of what was left undone."""

    def saved(self) -> Mapping[str, Any]:
        """JSON for a checkpoint."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `saved` returned."""
