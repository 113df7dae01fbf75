"""Encodes a question and its answer with a model's chat template."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from pmc_jax.config.model import ModelConfig
from pmc_jax.data import thoughts
from pmc_jax.data.conversation import split
from pmc_jax.data.template import check_template, encode_conversations, render_text
from pmc_jax.models.tokenizer_calls import token_ids

_ANSWER = "qzanswerzq"  # No template contains this word.


@dataclasses.dataclass(frozen=True)
class AnswerPlace:
    """Difference between the prompt for sampling and the token ids before an answer in training.

    The chat templates of models that think put an empty thought before an answer. Some of these
    templates open a thought at the end of a prompt.

    Attributes:
        dropped: number of token ids at the end of the prompt that training leaves out.
        added: token ids that training has in place of the dropped token ids.
        thought: mark that begins a thought at the end of the prompt, such as "<think>", or "".
    """

    dropped: int = 0
    added: tuple[int, ...] = ()
    thought: str = ""


def chat_prompts(
    tokenizer: Any, settings: ModelConfig, questions: Sequence[str], *, as_text: bool = False
) -> list[list[int]]:
    """Returns the token ids of the prompt for each question in the chat format.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        settings: settings with the system prompt and the variables of the template.
        questions: the questions.
        as_text: whether to encode special tokens in the questions as text.

    Raises:
        UserError: the template raises an error, or a special token cannot be encoded as text.
    """
    options = dict(ends_open=True, as_text=as_text, **_options(settings))
    conversations = [_messages(settings, question) for question in questions]
    return encode_conversations(tokenizer, conversations, **options)


def check_chat(tokenizer: Any, settings: ModelConfig) -> None:
    """Checks that the chat template of a tokenizer ends in time and prints the question.

    Raises:
        UserError: the template fails a check of `check_template` or raises an error.
    """
    check_template(
        tokenizer,
        functools.partial(_messages, settings),
        **_options(settings),
    )


def find_place(tokenizer: Any, settings: ModelConfig) -> tuple[AnswerPlace, list[int]]:
    """Finds where the chat template puts an answer, and the token ids that follow an answer.

    If the template changes the text of an answer, the result says that an answer directly follows
    the prompt, and that no token ids follow it.

    Raises:
        UserError: the template raises an error.
    """
    places, after = set(), []
    options = _options(settings)
    thought = ""
    for question in ("?", "A"):
        messages = _messages(settings, question)
        prompt = render_text(tokenizer, messages, ends_open=True, **options)
        messages.append({"role": "assistant", "content": _ANSWER})
        turn = render_text(tokenizer, messages, ends_open=False, **options)
        before, answer, rest = turn.partition(_ANSWER)
        if not answer:
            return AnswerPlace(thought=thoughts.opened_by(prompt)), []
        thought = thoughts.opened_by(prompt)
        ids, place = (token_ids(tokenizer, t, add_special_tokens=False) for t in (prompt, before))
        same = next((i for i, (a, b) in enumerate(zip(ids, place, strict=False)) if a != b), None)
        same = min(len(ids), len(place)) if same is None else same
        places.add((len(ids) - same, tuple(place[same:])))
        after = token_ids(tokenizer, rest, add_special_tokens=False)
    # A place that depends on the question is not part of the template.
    (dropped, added), *others = places
    return AnswerPlace(*((0, ()) if others else (dropped, added)), thought), after


def _messages(settings: ModelConfig, question: str) -> list[dict[str, str]]:
    messages = split(question)
    if settings.system_prompt is not None and messages[0][0] != "system":
        messages.insert(0, ("system", settings.system_prompt))
    return [{"role": role, "content": text} for role, text in messages]


def _options(settings: ModelConfig) -> dict[str, Any]:
    date = {} if settings.date_string is None else {"date_string": settings.date_string}
    return {"date": settings.date, "variables": {**settings.chat_template_kwargs, **date}}
