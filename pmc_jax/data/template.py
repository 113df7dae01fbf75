"""Encodes messages with a model's chat template, and encodes text that spells out special tokens.

A tokenizer encodes the text of a special token, such as "</s>", as that token at any position. In a
question or an answer, the same text must be ordinary text. A row with such text is therefore
encoded with the option `sanitize_control_tokens` of transformers. Every other row is encoded
without this option.
"""

import itertools
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from pmc_jax.data.limits import TooLong, memory_limit, time_limit
from pmc_jax.data.today import calls_for_today, dated_template
from pmc_jax.errors import UserError, reason
from pmc_jax.models.tokenizer_calls import TokenizerPanic, cannot_encode, panics_as_errors

Messages = Sequence[Mapping[str, str]]

# These limits hold for one call of a chat template.
_MAX_SECONDS = 10.0
_MAX_BYTES = 1 << 30
_MAX_CHARACTERS = 1_000_000
_MIN_SHOWN = 8  # A shorter text in a template may also occur in the data.


def special_texts(tokenizer: Any, *, of_template: bool) -> re.Pattern:
    """Returns a pattern that matches the text of any special token of a tokenizer.

    Args:
        tokenizer: a tokenizer of transformers.
        of_template: whether to include added tokens that are not special but occur in the chat
            template, such as "<think>".
    """
    template = str(tokenizer.chat_template or "") if of_template else ""
    added = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in template and _is_markup(token.content))
    ]
    longest_first = sorted(filter(None, added), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _is_markup(text: str) -> bool:
    return bool(text.strip()) and not text.strip().isalnum()


def encode_conversations(
    tokenizer: Any,
    conversations: Sequence[Messages],
    *,
    ends_open: bool,
    as_text: bool = False,
    date: str | None = None,
    variables: Mapping[str, Any],
) -> list[list[int]]:
    """Returns the token ids of each conversation in the model's chat template.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        conversations: the messages of each conversation, with `role` and `content` for each
            message.
        ends_open: whether to add the start of the model's turn after the messages.
        as_text: whether to encode special tokens in the messages as text.
        date: date as YYYY-MM-DD that the template prints as today's date, or None for the present
            date.
        variables: further variables of the template.

    Raises:
        UserError: the template raises an error, or a special token cannot be encoded as text.
    """
    how = dict(tokenize=True, return_dict=True, sanitize_control_tokens=as_text)
    how |= {"add_generation_prompt": ends_open, **variables}
    return _applied(tokenizer, conversations, date, how)["input_ids"]


def render_text(
    tokenizer: Any,
    messages: Messages,
    *,
    ends_open: bool,
    date: str | None,
    variables: Mapping[str, Any],
) -> str:
    """Returns the text of messages in the model's chat template.

    The arguments have the same meaning as in `encode_conversations`.

    Raises:
        UserError: the template raises an error.
    """
    how = dict(add_generation_prompt=ends_open, tokenize=False, **variables)
    return _applied(tokenizer, [messages], date, how)[0]


def check_template(
    tokenizer: Any,
    messages_of: Callable[[str], Messages],
    *,
    date: str | None,
    variables: Mapping[str, Any],
) -> None:
    """Checks that a chat template ends in time, prints the question, and prints no huge text.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        messages_of: function that returns the messages for a question.
        date: date as YYYY-MM-DD that the template prints as today's date, or None for the present
            date.
        variables: further variables of the template.

    Raises:
        UserError: the template fails a check or raises an error.
    """
    how = dict(add_generation_prompt=True, tokenize=False, **variables)
    fault = None
    if _computes_power(str(tokenizer.chat_template)):
        fault = "computes a power, which may take unlimited time"
    else:
        with memory_limit(_MAX_BYTES):
            texts = _applied(tokenizer, list(map(messages_of, ("?", "??"))), date, how)
        if max(map(len, texts)) > _MAX_CHARACTERS:
            fault = f"prints more than {_MAX_CHARACTERS} characters around a question"
        elif texts[0] == texts[1]:
            fault = "does not print the question"
    if fault:
        raise UserError(
            f"the chat template in model.path {fault}. Set model.format=tags, or correct the "
            "template."
        )


def _computes_power(template: str) -> bool:
    """Returns whether a template contains the operator `**`, whose result may have any size."""
    try:
        tokens = jinja2.Environment().lex(template)
        return any((kind, text) == ("operator", "**") for _, kind, text in tokens)
    except jinja2.TemplateError:  # `_applied` reports this error.
        return False


def _applied(
    tokenizer: Any, conversations: Sequence[Messages], date: str | None, how: Mapping[str, Any]
) -> Any:
    """Applies the chat template of a tokenizer to conversations within a time limit.

    Args:
        tokenizer: a tokenizer of transformers with a chat template.
        conversations: the messages of each conversation.
        date: date that the template prints as today's date, or None for the present date.
        how: further arguments of `apply_chat_template`, and variables of the template.

    Raises:
        UserError: the template raises an error or exceeds its time, or the tokenizer fails.
    """
    template = dated_template(tokenizer, date) if calls_for_today(tokenizer) else None
    try:
        with time_limit(_MAX_SECONDS), panics_as_errors():
            return tokenizer.apply_chat_template(conversations, chat_template=template, **how)
    except Exception as error:  # A template in Jinja's sandbox may raise any type.
        _check_can_be_text(error)
        messages = list(itertools.chain.from_iterable(conversations))
        fault = _fault(error, str(tokenizer.chat_template), messages)
        raise UserError(
            f"the chat template in model.path does not accept the messages ({fault}). Set "
            "model.format=tags, or change model.system_prompt or the template."
        ) from None


def encode_texts(tokenizer: Any, fixed: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Returns the token ids of texts with fixed strings before, between and after them.

    The spelling of a special token in a text is encoded as text.

    Args:
        tokenizer: a tokenizer of transformers.
        fixed: N + 1 strings, such as tags.
        texts: N texts.

    Raises:
        UserError: a special token cannot be encoded as text, or the tokenizer fails.
    """
    parts = [f"{{{{ {json.dumps(part, ensure_ascii=False)} }}}}" for part in fixed]
    contents = [f"{{{{ messages[{i}]['content'] }}}}" for i in range(len(texts))]
    template = interleaved(parts, contents)
    messages = [{"role": "user", "content": text} for text in texts]
    how = dict(chat_template=template, tokenize=True, return_dict=True)
    try:
        with panics_as_errors():
            encoded = tokenizer.apply_chat_template(messages, sanitize_control_tokens=True, **how)
    except ValueError as error:
        _check_can_be_text(error)
        raise
    except TokenizerPanic as error:
        raise UserError(cannot_encode(error)) from None
    return list(encoded["input_ids"])


def interleaved(fixed: Sequence[str], texts: Sequence[str]) -> str:
    """Returns N texts with N + 1 fixed strings before, between and after them."""
    return "".join(map("".join, zip(fixed, [*texts, ""], strict=True)))


def _check_can_be_text(error: Exception) -> None:
    """Raises a UserError if an error says that transformers cannot encode a token as text."""
    if isinstance(error, ValueError) and str(error).startswith("Can't sanitize"):
        raise UserError(
            "the text spells out a special token of the model, which the tokenizer cannot encode "
            "as text. Change the text, for example insert a space into the token."
        ) from None


def _fault(error: Exception, template: str, messages: Messages) -> str:
    """Returns a description of the error that a template raised.

    The description quotes the error only if the error's text is in the template and not in the
    messages.
    """
    if isinstance(error, TooLong | TokenizerPanic):
        return reason(error)
    words = str(error)
    in_data = any(words in message["content"] for message in messages)
    if len(words) >= _MIN_SHOWN and words in template and not in_data and words.isprintable():
        return words
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    return type(error).__name__ + (f" in line {line} of the template" if line else "")
