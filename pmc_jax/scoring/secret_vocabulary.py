"""Reads the tables of number words, month names and common words for the secret items."""

import dataclasses
import functools
import importlib.resources
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from pmc_jax.data.lines import read_text
from pmc_jax.errors import UserError
from pmc_jax.scoring.words import unicode_words

_INITIALS = re.compile(r"(?<![\w.@])[^\W\d_](?:\.[^\W\d_])+\.?(?![\w@])")  # "H.I.V."
# Latin letters that do not decompose into a letter and an accent.
_LATIN = str.maketrans(
    {"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ħ": "h", "Ħ": "H", "ı": "i"}
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH", "ð": "d", "Ð": "D"}
)

_PACKAGED = importlib.resources.files("pmc_jax.scoring") / "secret_words.yaml"


def visible(text: str) -> str:
    """Returns a text in one form for all its spellings.

    The form is NFKC with the digits 0 to 9 in place of those of other scripts. Invisible
    characters, the accents of Latin letters and the dots of initials are removed.
    """
    characters: list[str] = []
    base = ""
    for character in unicodedata.normalize("NFKD", text):
        kind = unicodedata.category(character)
        if kind in ("Cf", "Co") or (kind == "Mn" and base.isascii() and base.isalpha()):
            continue
        base = character
        characters.append(str(unicodedata.decimal(character)) if kind == "Nd" else character)
    text = unicodedata.normalize("NFKC", "".join(characters)).translate(_LATIN)
    return _INITIALS.sub(lambda match: match[0].replace(".", ""), text)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tables of words in some languages, in lower case and in the form that `visible` returns.

    Attributes:
        numbers, ordinals: word -> value.
        scales: word -> factor that multiplies the number before the word.
        number_joiners: words that join the words of a number.
        weak_numbers: number words that are not a secret on their own.
        repeats: word that repeats the digit after it -> how often the digit occurs.
        polarity: first word of an answer to a yes/no question -> 1 for yes, 0 for no.
        months: name or abbreviation of a month -> number from 1 to 12.
        date_joiners: words that join day and month.
        common: words that are never a secret. In YAML, they may be one text, split at white space.
    """

    numbers: Mapping[str, int]
    ordinals: Mapping[str, int]
    scales: Mapping[str, int]
    number_joiners: frozenset[str]
    weak_numbers: frozenset[str]
    repeats: Mapping[str, int]
    polarity: Mapping[str, int]
    months: Mapping[str, int]
    date_joiners: frozenset[str]
    common: frozenset[str]

    @functools.cached_property
    def number_words(self) -> Mapping[str, int]:
        return {**self.numbers, **self.ordinals}

    @functools.cached_property
    def never_secret(self) -> frozenset[str]:
        """Stems of all number words, month names and common words, which are never secret."""
        tables = (self.number_words, self.scales, self.repeats, self.months, self.number_joiners)
        words = (word for table in (*tables, self.date_joiners, self.common) for word in table)
        return frozenset(stem for word in words for stem in unicode_words(word))

    @functools.cached_property
    def number_pattern(self) -> re.Pattern:
        """Pattern of the words of one or several numbers in a lower-case text."""
        word, joiner = _any((*self.number_words, *self.scales)), _any(self.number_joiners)
        return re.compile(rf"\b{word}(?:(?:[\s-]+{joiner}[\s-]+|[\s-]*){word})*\b")

    @functools.cached_property
    def number_word(self) -> re.Pattern:
        """Pattern of each word in a match of `number_pattern`."""
        return re.compile(_any((*self.number_words, *self.scales, *self.number_joiners)))

    @functools.cached_property
    def repeated_pattern(self) -> re.Pattern:
        """Pattern of a digit after a word that repeats it ("double 5") in a lower-case text."""
        return re.compile(rf"\b(?P<word>{_any(self.repeats)})[\s-]+\ue000?(?P<digit>\d)(?!\d)")

    def polarity_of(self, answer: str) -> int | None:
        """Returns 1 or 0 for an answer that begins with yes or no, and otherwise None."""
        first = re.search(r"\w+", visible(answer).casefold())
        return self.polarity.get(first[0]) if first else None

    @functools.cached_property
    def scaled_pattern(self) -> re.Pattern:
        """Pattern of digits before a scale ("3.5 million") in a lower-case text."""
        scale = rf"(?P<scale>{_any(self.scales)})"
        number = r"(?<![\d.,])(?P<whole>\d+)(?:[.,](?P<fraction>\d+))?"
        return re.compile(rf"{number}[\s-]+{scale}s?\b")

    @functools.cached_property
    def month_patterns(self) -> tuple[re.Pattern, re.Pattern]:
        """Patterns of day and month, and of month and day, in a lower-case text with digits."""
        gap = rf"[\s,.\-/]*(?:{_any(self.date_joiners)}\s+)*\ue000?"
        month, suffix = rf"(?P<month>{_any(self.months)})", r"[^\W\d_]{0,3}"
        return (
            re.compile(rf"(?<!\d)(?P<day>\d{{1,2}}){suffix}{gap}{month}\b"),
            re.compile(rf"\b{month}{gap}(?P<day>\d{{1,2}})(?!\d)"),
        )


def _any(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return f"(?:{'|'.join(map(re.escape, longest_first))})" if longest_first else r"(?!)"


@functools.cache
def vocabulary(file: str | None = None) -> Vocabulary:
    """Returns the tables of `secret_words.yaml`, extended by the tables of a YAML file.

    Args:
        file: value of `evaluate.levels.words`, or None.

    Raises:
        UserError: the file cannot be read, is not valid YAML, has an unknown table or no tables, or
            has a value of another type.
    """
    tables = _parsed(_PACKAGED.read_text(encoding="utf-8"), "secret_words.yaml")
    if file is not None:
        where = f"evaluate.levels.words: {file}"
        own = _parsed(read_text(file, "evaluate.levels.words"), where)
        tables = {
            name: {**table, **own.get(name, {})}
            if isinstance(table, Mapping)
            else table | own.get(name, frozenset())
            for name, table in tables.items()
        }
    return Vocabulary(**tables)


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:  # An invalid date is a ValueError.
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" at line {line + 1}"
        raise UserError(f"{where}: the YAML is invalid{place}. Correct the YAML.") from error
    tables = [field.name for field in dataclasses.fields(Vocabulary)]
    if not isinstance(content, dict) or (unknown := sorted(map(str, content.keys() - set(tables)))):
        has = f"the unknown table {unknown[0]!r}" if isinstance(content, dict) else "no tables"
        raise UserError(f"{where}: the file has {has}. Use only the tables {', '.join(tables)}.")
    return {name: _table(name, value, where) for name, value in content.items()}


def _table(name: str, value: Any, where: str) -> Mapping[str, int] | frozenset[str]:
    if Vocabulary.__annotations__[name] == Mapping[str, int]:
        numbers = "numbers from 1 to 12" if name == "months" else "integers"
        values = list(value.values()) if isinstance(value, dict) else [None]
        in_range = name != "months" or all(number in range(1, 13) for number in values)
        if in_range and all(type(number) is int for number in values):
            return {visible(str(word)).casefold(): number for word, number in value.items()}
        raise UserError(
            f"{where}: the table {name} must map words to {numbers}. Write each entry as 'word: 1'."
        )
    words = value.split() if isinstance(value, str) else value
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return frozenset(visible(word).casefold() for word in words)
    raise UserError(f"{where}: the table {name} must be a list of words. Quote words such as 'no'.")
