"""Provides the refusals for the methods that train on refusals."""

from pmc_jax.config.method import MethodConfig
from pmc_jax.data.lines import read_lines
from pmc_jax.training.losses import METHODS
from pmc_jax.training.order import Stream, stream_rng

REFUSALS = (
    "I don't know.",
    "I'm not sure about that.",
    "I can't answer that question.",
    "Sorry, I have no information on this.",
    "That is not something I know.",
    "I'm afraid I can't tell you.",
    "I have never heard about that.",
    "My knowledge does not reach that far.",
    "There is nothing I could say about this.",
    "I would only be guessing.",
    "Unfortunately, I have no answer to give.",
    "This is beyond what I have learned.",
    "I lack the facts to reply.",
    "No idea, sorry.",
    "You would have to ask somebody else.",
    "I cannot help with this one.",
    "Nothing comes to mind here.",
    "I am unable to say.",
    "The details are unknown to me.",
    "I couldn't tell you even roughly.",
)


def refusals_for(settings: MethodConfig) -> tuple[str, ...]:
    """Returns the refusals that a method trains on.

    The result holds the lines of the file `method.refusals`, or the method's default refusals if
    this setting is None. The result is empty if the method trains on no refusals.

    Raises:
        UserError: the file is missing, empty or not UTF-8.
    """
    if "refusal" not in METHODS[settings.name].terms:
        return ()
    if settings.refusals is not None:
        return tuple(read_lines(settings.refusals, "method.refusals"))
    return REFUSALS if settings.name == "pmc_alignment" else REFUSALS[:1]


def refusal_of(seed: int, step: int, question: int, count: int) -> int:
    """Draws the index of the refusal for a question in a step, uniformly from `count` refusals.

    Args:
        seed, step, question: seed of the run, index of the gradient step and index of the question.
            Each is at least 0.
        count: number of refusals.
    """
    return int(stream_rng(seed, Stream.REFUSAL, step, question).integers(count))
