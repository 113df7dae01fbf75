"""Represents a question with its system message and its earlier turns as one string.

Most questions are the text of one user message. A conversation is the texts of all its messages up
to the question, each after the mark of its role:

    U+FDD0  system      U+FDD1  user      U+FDD2  assistant

Unicode reserves these characters for internal use, and `check.text_fault` keeps them out of texts.
A conversation is thus a string like any other question: it may be a key or part of a digest, two
conversations are equal only if all their messages are equal, and functions that look for words find
those of every message.
"""

import re
from collections.abc import Callable, Sequence

MARKS = {"system": "\ufdd0", "user": "\ufdd1", "assistant": "\ufdd2"}
_ROLES = {mark: role for role, mark in MARKS.items()}
_MARK = re.compile(f"([{''.join(_ROLES)}])")

Messages = Sequence[tuple[str, str]]  # (role, text) of each message


def has_mark(text: str) -> bool:
    """Returns whether a text contains the mark of a role."""
    return _MARK.search(text) is not None


def join(messages: Messages) -> str:
    """Returns messages as one question, which is the plain text of a single user message.

    Args:
        messages: role and text of each message, of which the last is the user's.
    """
    if len(messages) == 1:
        return messages[0][1]
    return "".join(MARKS[role] + text for role, text in messages)


def split(question: str) -> list[tuple[str, str]]:
    """Returns the role and the text of each message of a question.

    A string that is no conversation is the text of a user message.
    """
    before, *parts = _MARK.split(question)
    messages = [(_ROLES[m], text) for m, text in zip(parts[::2], parts[1::2], strict=True)]
    if before or not messages or messages[-1][0] != "user":
        return [("user", question)]
    return messages


def last_message(question: str) -> str:
    """Returns the text of the last message, without the messages before it."""
    return split(question)[-1][1]


def change_last(question: str, change: Callable[[str], str]) -> str:
    """Returns a question whose last message is changed by a function of its text."""
    *earlier, (role, text) = split(question)
    return join([*earlier, (role, change(text))])


def without_system(question: str) -> str:
    """Returns a question without its system message."""
    return join([message for message in split(question) if message[0] != "system"])


def transcript(question: str) -> str:
    """Returns a question for display: a plain question as it is, else a line for each message."""
    if not has_mark(question):
        return question
    return "\n".join(f"{role}: {text}" for role, text in split(question))
