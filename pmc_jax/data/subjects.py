"""Finds the people and things that forget questions are about, and replaces their names.

Unless subjects or names are given, subjects are texts of forget questions that no retain text has:

    name        words that begin with a capital letter, with particles such as "van" between them
    title       text in quotation marks that begins with a capital letter
    identifier  e-mail address, handle, or word with a digit, but not "1994", "20th" or "8-bit"
    phrase      words or characters that several forget questions share. Phrases count only if a
                question has no other subject and its capital letters mark no names.

`names.yaml` lists the particles, the words before a name and the words that begin a question.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import regex

from pmc_jax.data.conversation import MARKS, without_system
from pmc_jax.data.names import NameMaker, name_words, script_of, stem_and_end
from pmc_jax.data.spelling import SPACELESS, any_of

Key = tuple[str, ...]  # case-folded units of a text

_ONE_BY_ONE = rf"[{SPACELESS}\p{{Hangul}}]"  # scripts in which a unit is a character
_UNIT = regex.compile(rf"(?V1)[\w&&{_ONE_BY_ONE}]\p{{M}}*|[\w--{_ONE_BY_ONE}]+")
_ASCII_UNIT = re.compile(r"\w+")
_HAS_ONE_BY_ONE = regex.compile(rf"(?V1){_ONE_BY_ONE}")
_IDENTIFIER = regex.compile(
    r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+|(?<![\w@])@\w{2,}"
    r"|(?<![A-Za-z0-9_#])(?=\S*\d)[A-Za-z0-9]+(?:[-/.:_][A-Za-z0-9]+)*(?<=\d\S*)"
)
_SMALL_NUMBER = regex.compile(r"[\d.:,-]{1,4}|\d+\p{Ll}{1,2}|\d+-\p{L}+")  # "2.5", "20th", "8-bit"
# The excluded characters are the marks of `conversation`: a title does not span two messages.
_TITLE = regex.compile(
    r"""(?<!\w)['"“‘«„](?P<title>\p{Lu}[^\n\ufdd0-\ufdd2]{2,80}?)['"”’»“](?!\w)"""
)
_SENTENCE_ENDS = frozenset((*".!?:;…", *MARKS.values()))
_SENTENCE_START = regex.compile(rf"(?:^|[{''.join(_SENTENCE_ENDS)}])[\s\p{{P}}]*$")
_PART = regex.compile(r"[\p{L}\p{M}]+")
_WITHIN_PHRASE = regex.compile(r"[\s‐·-]*")
_LONGEST_PHRASE = 8  # units
_SHORTEST_PHRASE = 3  # characters of a phrase that is one word
_SHARE = 0.5  # A unit in this share of the retain texts does not begin or end a phrase.


def find_subjects(
    questions: Sequence[str],
    retained: Sequence[str],
    *,
    given: Sequence[str] | None = None,
    names: Sequence[str] = (),
) -> list[tuple[str, ...]]:
    """Finds the subjects of each forget question.

    Args:
        questions: the forget questions.
        retained: questions and answers of the retain data.
        given: the subject of each question, "" for none, or None if the data do not name subjects.
        names: names to look for in every question. With names, or with `given`, no other subjects
            are searched for.

    Returns:
        The subjects of each question as the question spells them, longest first. A question without
        a subject has an empty tuple.
    """
    if given is not None or names:
        rows = zip(questions, given or [""] * len(questions), strict=True)
        search = _Search(names)
        return [
            _longest_first([*search.spelled(text).values(), *_Search([own]).spelled(text).values()])
            for text, own in rows
        ]
    # A system message is an instruction that many questions share.
    questions = list(map(without_system, questions))
    evidence = _Capitals(questions, retained)
    candidates = [list(evidence.candidates(question)) for question in questions]
    phrases = [[] if _is_cased(text) else list(_phrases(text)) for text in questions]
    search = _Search(text for row in (*candidates, *phrases) for text in row)
    shared, kept = (
        Counter(key for text in texts for key in search.spelled(text))
        for texts in (questions, retained)
    )

    def preferred(names: list[str], phrases: list[str]) -> Iterator[str]:
        count = {name: shared[_key(name)] for name in names if not kept[_key(name)]}
        # In German, for example, many single words begin with a capital letter.
        names = [name for name in count if len(_key(name)) > 1] or list(count)
        most = max((count[name] for name in names), default=0)
        names = [name for name in names if 2 * count[name] >= most]
        for name in names:
            inside = [other for other in names if other != name and other in name]
            around = [other for other in names if other != name and name in other]
            if all(count[name] >= count[other] for other in inside) and all(
                count[name] > count[other] for other in around
            ):
                yield name
        if not names:
            # Without retain texts, a phrase may begin and end with any unit.
            yield from _best_phrase(phrases, shared, kept, max(1, _SHARE * len(retained)))

    return [_longest_first(preferred(*row)) for row in zip(candidates, phrases, strict=True)]


def invented_names(
    subjects: Sequence[tuple[str, ...]],
    texts: Iterable[str],
    *,
    count: int,
    seed: int,
    similar: bool = False,
) -> list[list[dict[str, str]]]:
    """Invents names in place of the subjects of each question.

    An invented name has the shape of the subject: the number of words, their scripts, capital
    letters, particles, titles and separators, and the number of digits. Words such as "Ltd" or
    "Hospital", which say what the subject is, stay. Its new words occur neither in the texts nor in
    the subjects. Its numbers, initials and letters of a code differ from those of the subject, but
    may occur elsewhere. A word of several subjects, such as the surname of a family, has the same
    invented word in all of them.

    Args:
        subjects: the subjects of each question, from `find_subjects`.
        texts: all texts of the data.
        count: number of invented names for each subject.
        seed: seed of the names.
        similar: whether about every second new word is spelled like the word that it replaces, such
            as "Ovetron" for "Ivatron", if this word is in Latin script and no usual name.

    Returns:
        For each question, `count` mappings from subject to invented name. The mappings of two
        questions about the same subject agree.
    """
    maker = NameMaker(texts, subjects, count, seed, similar=similar)
    return [
        [{name: maker.name(name, number) for name in row} for number in range(count)]
        for row in subjects
    ]


def replace_names(text: str, names: Mapping[str, str]) -> str:
    """Replaces names in a text.

    If a name and its new name have the same number of words, a word such as the surname is also
    replaced where it stands alone, and a Cyrillic word also with another ending. A name in capital
    letters stays in capital letters. Names inside longer words are not replaced.

    Args:
        text: a question or an answer.
        names: name -> new name.
    """
    return _replacement(tuple(names.items()))(text) if names else text


@functools.lru_cache(1 << 12)
def _replacement(names: tuple[tuple[str, str], ...]) -> Callable[[str], str]:
    """Returns the function that replaces names in a text."""
    table, stems = dict(names), {}
    for old, new in names:
        parts, new_parts = _PART.findall(old), _PART.findall(new)
        if len(parts) != len(new_parts):
            continue
        for one, other in zip(parts, new_parts, strict=True):
            (stem, end), (new_stem, new_end) = stem_and_end(one), stem_and_end(other)
            if one == other:
                continue
            if len(parts) > 1 and _stands_alone(one):
                table.setdefault(one, other)
            if script_of(one) == "cyrillic" and end.lower() == new_end.lower():
                stems[stem] = new_stem
    in_any_case = {old.casefold(): new for old, new in names}
    in_capitals = {old.upper(): new.upper() for old, new in table.items()}

    def replaced(match: regex.Match) -> str:
        found = match[0]
        if new := table.get(found) or in_capitals.get(found):
            return new
        if new := in_any_case.get(found.casefold()):
            return new.lower() if found.islower() else new
        stem, end = stem_and_end(found)
        if found[0].isupper() and stem in stems:
            new = stems[stem]
            return new.upper() + end if found.isupper() else new.capitalize() + end
        return found

    pattern = any_of([*table], regex.IGNORECASE)
    if stems:
        pattern = regex.compile(rf"{pattern.pattern}|\p{{Cyrillic}}+", regex.IGNORECASE)
    return functools.partial(pattern.sub, replaced)


def _stands_alone(word: str) -> bool:
    """Returns whether a word of a name means the name where the word stands alone."""
    if word.lower() == word.upper():
        return len(word) >= _SHORTEST_PHRASE
    return word[0].isupper() and len(word) > 1 and word.casefold() not in name_words().starters


def _longest_first(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(dict.fromkeys(names), key=len, reverse=True))


def _units(text: str) -> Iterator[re.Match | regex.Match]:
    """Yields the words of a text, and each character in scripts without spaces and in Korean."""
    return (_ASCII_UNIT if text.isascii() else _UNIT).finditer(text)  # `re` is faster.


def _key(text: str) -> Key:
    return tuple(unit[0].casefold() for unit in _units(text))


def _is_cased(text: str) -> bool:
    """Returns whether names in a text begin with capital letters."""
    is_plain = text in (text.upper(), text.lower())
    return not is_plain and not _HAS_ONE_BY_ONE.search(text)


class _Search:
    """Finds strings in a text, in any case and whatever divides their words."""

    def __init__(self, strings: Iterable[str]):
        self._keys = {_key(string) for string in strings} - {()}
        self._lengths: dict[str, set[int]] = defaultdict(set)
        for key in self._keys:
            self._lengths[key[0]].add(len(key))

    def spelled(self, text: str) -> dict[Key, str]:
        """Returns the key of each string that a text contains, and its first spelling there."""
        units = list(_units(text))
        folded = [unit[0].casefold() for unit in units]
        found: dict[Key, str] = {}
        for i, first in enumerate(folded):
            for length in self._lengths.get(first, ()):
                key = tuple(folded[i : i + length])
                if key in self._keys and key not in found:
                    found[key] = text[units[i].start() : units[i + len(key) - 1].end()]
        return found


def _phrases(text: str) -> Iterator[str]:
    """Yields each run of one to eight units that only white space, hyphens or dots divide."""
    units = list(_units(text))
    for i, first in enumerate(units):
        end = first.start()
        for last in units[i : i + _LONGEST_PHRASE]:
            if not _WITHIN_PHRASE.fullmatch(text, end, last.start()):
                break
            end = last.end()
            yield text[first.start() : end]


def _best_phrase(
    phrases: Sequence[str], shared: Counter[Key], kept: Counter[Key], common: float
) -> list[str]:
    """Returns a list with the phrase that most questions share (the longest of several), or []."""

    def is_candidate(phrase: str) -> bool:
        key = _key(phrase)
        if len(key) == 1 and len(phrase) < _SHORTEST_PHRASE:
            return False
        edges = key[:1], key[-1:]
        return (
            shared[key] > 1
            and not kept[key]
            and all(kept[edge] < common for edge in edges)
            and name_words().starters.isdisjoint(key)
        )

    best = max(
        filter(is_candidate, phrases),
        key=lambda phrase: (shared[_key(phrase)], len(phrase)),
        default=None,
    )
    return [] if best is None else [best]


class _Capitals:
    """Finds names by their capital letters.

    A sentence's first word belongs to a name if it is no starter in `names.yaml` and either occurs
    capitalised inside a sentence, or is never lower-case and begins no sentence of `retained`.

    Args:
        questions: the forget questions.
        retained: texts of the retain data.
    """

    def __init__(self, questions: Iterable[str], retained: Iterable[str]):
        self._inside: set[str] = set()
        self._small: set[str] = set()
        self._first: set[str] = set()  # only in the retain data
        for texts, first in ((questions, set()), (retained, self._first)):
            for word, is_first in (word for text in texts for word in _words(text)):
                kind = first if is_first else self._inside
                (kind if word[0].isupper() else self._small).add(word)

    def candidates(self, question: str) -> Iterator[str]:
        """Yields the names, titles and identifiers in a question."""
        for match in _IDENTIFIER.finditer(question):
            if not _SMALL_NUMBER.fullmatch(match[0]):
                yield match[0]
        if question in (question.upper(), question.lower()):
            return
        titles = [match["title"] for match in _TITLE.finditer(question)]
        yield from titles
        for text in titles:
            question = question.replace(text, "_" * len(text))
        question = _IDENTIFIER.sub(lambda match: "_" * len(match[0]), question)
        for match in _name_pattern().finditer(question):
            if name := self._without_first_words(match[0], question[: match.start()]):
                yield name
                # A particle is sometimes a preposition, as in "Hund von Anna Petersen".
                parts = _particles().split(name)
                yield from (part for part in parts if len(_key(part)) > 1)

    def _without_first_words(self, name: str, before: str) -> str:
        """Returns a name without titles and without words that only begin a sentence."""
        titles = name_words().titles
        last = (_PART.findall(before) or [""])[-1]
        begins = _SENTENCE_START.search(before) and last.casefold() not in titles
        while name:
            first = regex.match(r"\w+(?:['’]\w+)*", name)[0]
            rest = name[len(first) :]
            is_initial = rest.startswith(".") and len(first) == 1
            if is_initial or not (
                first.casefold() in titles or (begins and self._only_begins(first))
            ):
                return name
            name = regex.sub(r"^\W+", "", rest)
        return name

    def _only_begins(self, word: str) -> bool:
        stem, _, end = word.replace("’", "'").partition("'")  # "What's", "L'auteur", "L'Oréal"
        if stem.casefold() in name_words().starters and not end[:1].isupper():
            return True
        return word not in self._inside and (word in self._first or word.casefold() in self._small)


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Yields each word of a text and whether it begins a sentence."""
    end = 0
    for unit in _units(text):
        gap = text[end : unit.start()]
        yield unit[0], gap != " " and (not end or not _SENTENCE_ENDS.isdisjoint(gap))
        end = unit.end()


@functools.cache
def _name_pattern() -> regex.Pattern:
    letter = r"[\p{Lu}\p{Ll}\p{Lt}\p{M}]"
    # A name ends before the possessive "'s".
    word = rf"\p{{Lu}}(?:\.(?:[-‐]?\p{{Lu}}\.)*|{letter}*(?:['’‐-](?!s\b){letter}+)*)"
    return regex.compile(rf"(?<!{letter}|\d|_){word}(?:(?:\s+|{_particles().pattern}){word})*")


@functools.cache
def _particles() -> regex.Pattern:
    """Returns the pattern of particles between the words of a name, with white space."""
    particle = "|".join(map(regex.escape, sorted(name_words().particles)))
    return regex.compile(rf"\s+(?:(?:{particle})(?:\s+|[-‐’']))+")
