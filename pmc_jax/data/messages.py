"""Reads the column of a source that holds chat messages.

Its values are arrays such as

    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When is tea?"},
     {"role": "assistant", "content": "At four."}]

The last assistant message is the answer, and the messages before it are the question. The content
of a message is a text or an array of parts {"type": "text", "text": ...}, which are joined.
"""

from collections.abc import Sequence
from typing import Any

from pmc_jax.data.check import text_fault
from pmc_jax.data.conversation import MARKS, join
from pmc_jax.data.files import json_type


def question_of(value: Any, *, may_have_answer: bool) -> str:
    """Returns the question in messages, as `conversation.join` returns it.

    Args:
        value: an array of messages.
        may_have_answer: whether the last message may be the answer, which is left out.

    Raises:
        ValueError: the messages are not valid. The text continues a sentence about the value.
    """
    messages = _read(value)
    roles = [role for role, _ in messages]
    if "user" not in roles:
        raise ValueError("has no user message")
    if "system" in roles[1:]:
        raise ValueError("has a system message that is not the first message")
    if "user" not in (roles[0], roles[1] if roles[0] == "system" else ""):
        raise ValueError("begins with an assistant message, not with a user message")
    if roles[-1] == "user":
        return join(messages)
    if not may_have_answer:
        raise ValueError("ends with an assistant message, but its answer is given separately")
    if roles[-2] != "user":
        raise ValueError("has no user message directly before the last assistant message")
    return join(messages[:-1])


def answer_of(value: Any) -> str:
    """Returns the answer in messages, which is the last message.

    Args:
        value: an array of messages.

    Raises:
        ValueError: the messages are not valid. The text continues a sentence about the value.
    """
    messages = _read(value)
    if not messages or messages[-1][0] != "assistant":
        raise ValueError("does not end with an assistant message, so it has no answer")
    return messages[-1][1]


def _read(value: Any) -> list[tuple[str, str]]:
    """Returns the role and the text of each message."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"is {json_type(value)}, not an array of messages")
    return [_message(value[i], f"message {i + 1} of {len(value)}") for i in range(len(value))]


def _message(value: Any, name: str) -> tuple[str, str]:
    """Returns the role and the text of a message.

    Args:
        name: how messages of errors name the message.
    """
    if not isinstance(value, dict):
        raise ValueError(f"has {json_type(value)} as {name}, not an object")
    if absent := [key for key in ("role", "content") if key not in value]:
        raise ValueError(f"has no key '{absent[0]}' in {name}")
    role, content = value["role"], value["content"]
    if not isinstance(role, str) or role not in MARKS:
        raise ValueError(f"has a role other than {', '.join(MARKS)} in {name}")
    if isinstance(content, list | tuple):
        content = _joined(content, name)
    if fault := text_fault(content):
        raise ValueError(f"has a content that {fault} in {name}")
    return role, content


def _joined(parts: Sequence[Any], name: str) -> str:
    """Returns the text of a content that is given in parts."""
    for part in parts:
        is_text = isinstance(part, dict) and part.get("type") == "text"
        if not is_text or not isinstance(part.get("text"), str):
            raise ValueError(f"has a part that is not text in {name}")
    return "".join(part["text"] for part in parts)
