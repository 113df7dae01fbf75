"""Reads the words of names from `names.yaml`, and makes new names from words that the data lack."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import itertools
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import regex
import yaml

from pmc_jax.data.spelling import SPACELESS

_ONE_BY_ONE = rf"[{SPACELESS}\p{{Hangul}}]"  # A name in these scripts is one run of characters.
_PIECE = regex.compile(
    rf"(?V1)(?:[\w&&{_ONE_BY_ONE}]\p{{M}}*)+|[[\p{{L}}\p{{M}}]--{_ONE_BY_ONE}]+|\d+"
)
_PIECE_ONE_BY_ONE = regex.compile(rf"(?V1)[\w&&{_ONE_BY_ONE}]")
_FEWEST_CODE_DIGITS = 3  # A code with fewer digits has new letters too.
_YEAR = 4  # number of digits of a year
_LARGEST_DIGIT = 9  # This number is also a month, so a date stays a date.
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
_CHANGED = 0.5  # share of the letters that change in a word that is spelled like another
_TRIES = 100  # number of draws before a word of another length or a known number is taken
# The cases of a Russian name differ in the end of each word.
_CYRILLIC_END = regex.compile(
    "(?:ого|его|ому|ему|ыми|ими|[ыиоеа]м|[аыи]х|[аеёиоуыэюяйь]{1,3})$", regex.IGNORECASE
)
_SHORTEST_STEM = 3


@dataclasses.dataclass(frozen=True)
class NameWords:
    """Contents of `names.yaml`.

    Attributes:
        particles, titles, kinds, starters: words inside a name, before a name, for what a thing is,
            and at the beginning of a question, in lower case.
        scripts: script -> kind ("given" or "family") -> words of names.
    """

    particles: frozenset[str]
    titles: frozenset[str]
    kinds: frozenset[str]
    starters: frozenset[str]
    scripts: Mapping[str, Mapping[str, tuple[str, ...]]]


@functools.cache
def name_words() -> NameWords:
    file = importlib.resources.files("pmc_jax.data") / "names.yaml"
    contents = yaml.safe_load(file.read_text(encoding="utf-8"))
    scripts = contents.pop("scripts")
    return NameWords(
        **{kind: frozenset(words.casefold().split()) for kind, words in contents.items()},
        scripts={
            script: {kind: tuple(dict.fromkeys(words.split())) for kind, words in kinds.items()}
            for script, kinds in scripts.items()
        },
    )


class NameMaker:
    """Replaces the words of names with words that do not occur in the data.

    The words come from `names.yaml`. When they are used up, words are coined letter by letter, so
    that sequences of three letters are as frequent as in these words. For a script that the file
    lacks, the frequencies are those in the data. New numbers, initials and letters of a code differ
    from the old ones, but may occur elsewhere in the data.

    Args:
        texts: all texts of the data.
        rows: the names that occur together, for each question.
        count: number of new names for each name.
        seed: seed of the choices.
        similar: whether every second new word of a name that is not listed is spelled like the word
            that it replaces.
    """

    def __init__(
        self,
        texts: Iterable[str],
        rows: Sequence[Sequence[str]],
        count: int,
        seed: int,
        *,
        similar: bool = False,
    ):
        names = sorted(
            {name for row in rows for name in row}, key=lambda name: ("@" in name, -len(name), name)
        )
        self._corpus = "\n".join([*texts, *names]).casefold()
        self._words = frozenset(stem_and_end(word)[0] for word in _PIECE.findall(self._corpus))
        self._seed, self._similar = seed, similar
        self._new: dict[str, list[str]] = {}  # stem -> new words
        words = defaultdict(list)  # stem -> its words and their kinds
        for name in names:
            for word, kind in _replaced_words(name):
                words[stem_and_end(word[0])[0]].append((word[0].casefold(), kind))
        together = defaultdict(set)
        for row in rows:
            stems = {stem_and_end(word[0])[0] for name in row for word, _ in _replaced_words(name)}
            for stem in stems:
                together[stem] |= stems
        for stem, spelled in words.items():
            others = [self._new[other] for other in together[stem] if other in self._new]
            kind = spelled[0][1]
            shortest = min((word for word, _ in spelled), key=lambda word: (len(word), word))
            options, new = self._options(shortest, kind), []
            while len(new) < count:
                option = next(options)
                is_free = option not in new and all(option != other[len(new)] for other in others)
                if is_free or kind in ("digits", "letters"):
                    new.append(option)
            self._new[stem] = new

    def name(self, name: str, number: int) -> str:
        """Returns one of the new names for a name.

        Args:
            name: a name in `rows`.
            number: index of the new name, from 0 to `count` - 1.
        """
        result, end = "", 0
        for word, _ in _replaced_words(name):
            stem, ending = stem_and_end(word[0])
            new = self._new[stem][number]
            if ending:
                new = new[: len(stem_and_end(new)[0])] + ending
            result += name[end : word.start()] + _in_shape(new, word[0])
            end = word.end()
        return result + name[end:]

    def _options(self, word: str, kind: str) -> Iterator[str]:
        """Yields an endless sequence of new words for a word."""
        draw = random.Random(f"{self._seed}/{word}").random
        if kind == "digits":
            for attempt in itertools.count():
                digits = _digits(word, draw)
                if digits != word and (self._is_new(digits) or attempt > _TRIES):
                    yield digits
        script = script_of(word)
        listed = name_words().scripts.get(script, {})
        if kind == "letters":
            known = "".join(listed.get("given", self._words)).casefold()
            letters = sorted({letter for letter in known if script_of(letter) == script})
            while True:
                new = "".join(_choice(letters, draw) for _ in word)
                if new != word or len(letters) == 1:
                    yield new
        words = listed.get(kind) or listed.get("given", ())
        if kind == "whole" and "family" in listed:
            pairs = itertools.product(listed["family"], listed["given"])
            words = [family + given for family, given in pairs if len(family + given) == len(word)]
        order = sorted(words, key=lambda _: draw())
        # Words with the same last letter often have the same gender.
        order.sort(key=lambda new: (new[-1] != word[-1]) + (abs(len(new) - len(word)) > 2))
        new = filter(self._is_new, order)
        if self._similar and word not in {text.casefold() for text in words}:
            pairs = itertools.zip_longest(new, itertools.islice(self._like(word, draw), len(order)))
            new = filter(None, itertools.chain.from_iterable(pairs))
        yield from new
        model = words or [text for text in sorted(self._words) if script_of(text) == script]
        yield from self._coined(model, len(word), draw)

    def _like(self, word: str, draw: Callable[[], float]) -> Iterator[str]:
        """Yields new words that differ from a word in about half of its vowels and consonants."""
        for _ in range(_TRIES * _TRIES):
            letters = (_choice(_alike(c), draw) if draw() < _CHANGED else c for c in word)
            text = "".join(letters)
            if self._is_new(text):
                yield text.capitalize()

    def _coined(
        self, model: Sequence[str], length: int, draw: Callable[[], float]
    ) -> Iterator[str]:
        """Yields an endless sequence of words like those in `model`, of about `length` letters."""
        after = defaultdict(list)
        for text in model:
            padded = f"\0\0{text.casefold()}\0"
            for i in range(len(padded) - 2):
                after[padded[i : i + 2]].append(padded[i + 2])
        letters = sorted({c for text in model for c in text.casefold()})
        for attempt in itertools.count():
            # The range grows, because there may be few words of this length.
            most = length + 2 + attempt // _TRIES
            text = "\0\0"
            while len(text) < most + 2 and (letter := _choice(after[text[-2:]], draw)) != "\0":
                text += letter
            text = text[2:] + "".join(
                _choice(letters, draw) for _ in range(attempt // 10 // _TRIES)
            )
            if len(text) >= length - 2 - attempt // _TRIES and self._is_new(text):
                yield text.capitalize()

    def _is_new(self, word: str) -> bool:
        if _PIECE_ONE_BY_ONE.match(word):
            return word not in self._corpus
        return stem_and_end(word)[0] not in self._words


def stem_and_end(word: str) -> tuple[str, str]:
    """Divides a word into its case-folded stem and its end.

    The end is the ending of a Russian or similar word, and otherwise empty.
    """
    if (
        not word.isascii()
        and script_of(word) == "cyrillic"
        and (end := _CYRILLIC_END.search(word, _SHORTEST_STEM))
    ):
        return word[: end.start()].casefold(), end[0]
    return word.casefold(), ""


@functools.lru_cache(1 << 16)
def _replaced_words(name: str) -> list[tuple[regex.Match, str]]:
    """Returns the words of a name that are replaced, and the kind of each word.

    The kinds are "given" and "family" in a name of several words, "given" for a single word,
    "whole" for a run of characters in a script without spaces or in Korean, "digits", and "letters"
    for an initial or the letters of a code.
    """
    words = list(_PIECE.finditer(name))
    last_space = max((match.start() for match in regex.finditer(r"\s", name)), default=-1)
    digits = sum(map(str.isdigit, name))
    is_code = digits > 0 and last_space < 0 and "@" not in name
    capitals = any(word[0][0].isupper() for word in words)

    def kind(word: regex.Match) -> str | None:
        text = word[0]
        if text.isdigit():
            return "digits"
        if is_code:  # The letters of "INC-20418" name the kind of the code.
            return None if digits >= _FEWEST_CODE_DIGITS else "letters"
        if "@" in name and word is words[-1] and len(words) > 1:
            return None
        if _PIECE_ONE_BY_ONE.match(text):
            return "whole"
        folded, after = text.casefold(), name[word.end() : word.end() + 1]
        if len(text) == 1 and after not in ("'", "’"):
            return "letters"
        small = text.islower() and capitals and "@" not in name
        if small or len(text) == 1 or (word is words[0] and folded in name_words().titles):
            return None
        if len(words) > 1 and folded in name_words().kinds:
            return None
        if folded in name_words().particles and (name.isupper() or after in ("-", "‐")):
            return None
        return "family" if 0 <= last_space < word.start() else "given"

    kinds = [(word, kind(word)) for word in words]
    replaced = [(word, kind) for word, kind in kinds if kind]
    return replaced or [(word, "given") for word in words]


def _in_shape(new: str, old: str) -> str:
    """Returns a new word with the case of an old word."""
    if (old.isupper() and len(old) > 1) or (len(new) == 1 and old.isupper()):
        return new.upper()
    return new.lower() if old.islower() else new


def _alike(letter: str) -> str:
    """Returns the vowels for a vowel of the Latin alphabet, the consonants for a consonant."""
    return next((letters for letters in (_VOWELS, _CONSONANTS) if letter in letters), letter)


def script_of(word: str) -> str:
    """Returns the script of the first character of a word, such as "latin" or "cjk"."""
    return unicodedata.name(word[0], "").partition(" ")[0].lower()


def _digits(old: str, draw: Callable[[], float]) -> str:
    """Returns random digits that can replace the digits `old` in a date."""
    if len(old) < 3:
        return f"{1 + int(draw() * max(int(old), _LARGEST_DIGIT)):0{len(old)}}"
    kept = old[:2] if len(old) == _YEAR and old[:2] in ("19", "20") else ""
    return kept + "".join(str(int(draw() * 10)) for _ in old[len(kept) :])


def _choice(options: Sequence[str], draw: Callable[[], float]) -> str:
    return options[int(draw() * len(options))]
