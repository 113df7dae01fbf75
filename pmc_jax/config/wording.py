"""Wording for the names and values of settings in messages.

A message shows a key or a value only if the text has the form of a name or of a word. Any other
text may be private, so the message gives the position of the key or the length of the value.
"""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any


def is_name(key: Any) -> bool:
    """Returns whether a key has the form of a setting's name or of a score's name.

    Messages show only such keys, because other keys may be private texts.
    """
    return isinstance(key, str) and bool(re.fullmatch(r"[a-z_][\w.:-]{0,79}", key, re.ASCII))


def is_word(text: str) -> bool:
    """Returns whether a text is a short word, path or number, which messages may show."""
    return bool(re.fullmatch(r"[\w./:+,=\[\]-]{0,100}", text, re.ASCII))


def is_text(value: str) -> bool:
    """Returns whether a text can be the name of a file and can be written to a file.

    A NUL character and half of a surrogate pair (\\ud800) cannot. The halves that stand for the
    bytes of a file's name that is not UTF-8 can.
    """
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """Returns the candidate whose last part is most similar to the last part of `name`.

    Dots separate the parts of a name. The result is None if no candidate is similar enough.
    """
    by_last = {full.rpartition(".")[2]: full for full in reversed(candidates)}
    match = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.6)
    return by_last[match[0]] if match else None


def offer(guess: str | None, candidates: Sequence[str]) -> str:
    """Returns advice on an unknown name: the guess, or all candidates if there is no guess."""
    return f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(candidates)}."


def key_name(key: Any, siblings: Sequence[Any]) -> str:
    """Returns a key of a file, or its position (from 1) if the key may be private text."""
    return key if is_name(key) else f"(key {siblings.index(key) + 1})"


def shown(value: Any) -> str:
    """Returns a short text that shows or describes a value, on one line.

    A text that is not a word may be private, so only its length is shown.
    """
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        length = f"{len(value)} character{'s' * (len(value) > 1)}"
        return repr(value) if is_word(value) else f"a text of {length}"
    short = reprlib.Repr()
    short.maxother = short.maxlong = 60
    return short.repr(value)
