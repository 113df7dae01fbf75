"""Finds the words of a text in any script, in their original spelling."""

from collections.abc import Sequence

import regex

# The scripts with the property LB=SA are Thai, Lao, Khmer, Myanmar and similar scripts.
SPACELESS = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{LB=SA}]"
_SPACED = rf"[\w--{SPACELESS}]"
_ONE_OR_RUN = regex.compile(rf"(?V1)[\w&&{SPACELESS}]\p{{M}}*|{_SPACED}+")
_PIECE = regex.compile(rf"{_ONE_OR_RUN.pattern}|[^\w\s]")
_BLANK_SEPARATED = regex.compile(rf"(?V1)[\w&&{SPACELESS}]\p{{M}}*|[^\s{SPACELESS}]+")
_SPACELESS_START = regex.compile(rf"(?V1)[\w&&{SPACELESS}]")
# Korean writes particles at the end of a word, as in 김민수의 for 김민수.
_OPEN_END = regex.compile(rf"(?V1)[\w&&[{SPACELESS}\p{{Hangul}}]]\p{{M}}*$")


def spelled_words(text: str) -> list[regex.Match]:
    """Finds the words of a text and returns a match for each word, in the original spelling.

    A word is a run of letters, marks, digits and `_`. In scripts without spaces, each character is
    a word.
    """
    return list(_ONE_OR_RUN.finditer(text))


def words_and_marks(text: str) -> list[str]:
    """Splits a text into the words of `spelled_words` and single punctuation marks or symbols."""
    return _PIECE.findall(text)


def blank_separated(text: str) -> list[regex.Match]:
    """Finds the words of a text that white space separates, and returns a match for each word.

    In scripts without spaces, each character is a word.
    """
    return list(_BLANK_SEPARATED.finditer(text))


def any_of(strings: Sequence[str], flags: int = 0) -> regex.Pattern:
    """Returns a pattern that matches any of the strings, but not as a part of a longer word.

    The pattern prefers the longest string. In scripts without spaces, the pattern matches a string
    at any position, and in Korean also at the beginning of a word.

    Args:
        strings: at least one string.
        flags: flags of the package `regex`.
    """

    def bounded(text: str) -> str:
        before = "" if _SPACELESS_START.match(text) else rf"(?<!{_SPACED})"
        after = "" if _OPEN_END.search(text) else rf"(?!{_SPACED})"
        return before + regex.escape(text, literal_spaces=True) + after

    longest_first = sorted(strings, key=len, reverse=True)
    return regex.compile("(?V1)" + "|".join(map(bounded, longest_first)), flags)
