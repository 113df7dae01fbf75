"""Finds the keys of a text: each number, date, address and word that the text can mean.

Two texts that state the same fact share a key, whatever the spelling:

    "number 3012345"   Digits without leading zeros, joined across spaces, hyphens, dots, brackets
                       and similar separators. Number words count as digits. Each part of such a
                       sequence has a key.
    "digits 1234567"   Seven digits in a row of such a sequence, so that a prefix has no effect.
    "date 3/5"         Day and month. Both orders have a key if the order is not clear.
    "address x@y.org"  E-mail address or web address, also with the words "at" and "dot".
    "code sw1a2aa"     Letters and digits, joined across single separators.
    "phrase 苏州"      Two or three neighbouring characters, in scripts without spaces.
    "word alderm"      Stem of a word, here "Aldermer".

Case, compatibility forms (NFKC), accents of Latin letters and invisible characters have no effect.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

import regex

from pmc_jax.data.spelling import SPACELESS, spelled_words
from pmc_jax.scoring.secret_vocabulary import Vocabulary, visible
from pmc_jax.scoring.words import unicode_words

Keys = frozenset[str]

LONG = 7  # number of digits that identify a number
GRAMS = (2, 3)  # numbers of neighbouring characters that identify a phrase
WEAK = "\ue000"  # private-use mark before the digits of a weak number word

_MOST_PARTS = 12  # maximum number of joined parts of a number or a code
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:([,.'])\d{3})(?:\1\d{3})*(?!\d)")
_TOKEN = re.compile(r"(?<![\d.,])\d+[.,]\d{1,2}(?![.,]?\d)(?![^\W_])|[^\W_]*\d[^\W_]*")
_WITH_UNIT = re.compile(r"(\d+)[^\W\d_]{0,3}")
_BETWEEN_DIGITS = re.compile(rf"(?:[\s\-‐-―/()\[\]+:·'’_#*{WEAK}]|[.,](?!\s))*")
_DICTATED = re.compile(r"(?:[\W_]|over|dash|hyphen|slash|dot|plus)*")  # "five, five dash five"
_YEAR_FIRST = re.compile(
    r"(?<![\d.\-/])(?P<year>\d{4})\s?[-/.年]\s?(?P<month>\d{1,2})\s?[-/.月]\s?(?P<day>\d{1,2})"
    r"(?![-/.]?\d)"
)
_YEAR_LAST = re.compile(
    r"(?<![\d.\-/])(?P<day>\d{1,2})\s?[-/.]\s?(?P<month>\d{1,2})\s?[-/.]\s?"
    r"(?P<year>\d{4}|\d{2})(?![-/.]?\d)"
)
_MONTH_DAY = re.compile(r"(?<!\d)(?P<month>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?日")
# Only `keys` finds these dates. They are no secret items, because they can also be other numbers.
_POSSIBLE_DATES = (
    re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?P<b>0\d|1[0-2])(?P<a>[0-2]\d|3[01])(?!\d)"),
    re.compile(r"(?<!\d)(?P<a>\d\d)(?P<b>\d\d)(?:1[89]|20)\d\d(?!\d)"),
    re.compile(r"(?<![\d.\-/])(?P<a>\d{1,2})\s?/\s?(?P<b>\d{1,2})(?![-/.]?\d)"),
)
_SHORT_YEAR = re.compile(r"(?<!\w)['’](\d\d)(?!\w)")
_EMAIL = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_WEB = re.compile(
    r"(?<![\w@.-])(?:https?://)?(?:www\.)?"
    r"(?P<host>(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,})(?![\w@-])(?P<path>/[^\s<>\"]*)?"
)
_SPELLED_DOT = re.compile(r"(?<=\w)(?:\s*[\[({<]\s*dot\s*[\])}>]\s*|\s+dot\s+)(?=\w)")
_SPELLED_AT = re.compile(r"(?<=\w)(?:\s*[\[({<]\s*at\s*[\])}>]\s*|\s+at\s+|\s*@\s*)(?=\w)")
_CHUNK = re.compile(r"[^\W_]+")
_HAN = regex.compile(r"\p{Han}{2}")
_SPACELESS = regex.compile(rf"(?V1){SPACELESS}")
_LETTER_DIGIT = regex.compile(
    rf"(?V1)(?<=\d)(?=[{SPACELESS}\p{{Hangul}}])|(?<=[{SPACELESS}\p{{Hangul}}])(?=\d)"
)
_SHORT_SCALES = {"k": 10**3, "m": 10**6, "mn": 10**6, "bn": 10**9}
_SHORT_SCALED = re.compile(  # "85k", "$3.5m"; "5 m" can be a length
    r"(?:(?P<sign>[$€£¥]\s?)|(?<![\w.,]))(?P<whole>\d+)(?:[.,](?P<fraction>\d+))?"
    r"(?P<scale>k|[mb]n|(?(sign)m|(?!)))(?!\w)"
)
_POINT = re.compile(r"(\d+)\s+point\s+(\d+)(?![\d.,])")
_LETTERS = re.compile(r"(?<!\w)[^\W\d_](?:[\s.\-·*_]+[^\W\d_]){2,}(?!\w)")
_HYPHENATED = re.compile(r"(?<!\w)[^\W\d_]+(?:-[^\W\d_]+)+")


def keys(text: str, words: Vocabulary) -> Keys:
    """Returns the keys of all numbers, dates, addresses, codes, phrases and words of a text."""
    folded = visible(text).casefold()
    digits = with_digits(folded, words)
    found = {key for _, _, date in dates(digits, words) for key in date}
    for pattern in _POSSIBLE_DATES:
        for match in pattern.finditer(digits):
            found |= {f"date {d}/{m}" for d, m in _valid(int(match["a"]), int(match["b"]), True)}
    found |= {number_key(f"{c}{year}") for year in _SHORT_YEAR.findall(digits) for c in (19, 20)}
    found |= {key for address in addresses(folded) for key in address}
    found |= _numbers(digits) | _codes(digits) | _phrases(folded)
    joined = [
        re.sub(r"[\W_]", "", m[0]) for p in (_LETTERS, _HYPHENATED) for m in p.finditer(folded)
    ]
    words_of = unicode_words(" ".join((folded, *joined)))
    return frozenset(found) | {f"word {stem}" for stem in words_of}


def number_key(digits: str) -> str:
    return f"number {digits.lstrip('0') or '0'}"


def long_key(digits: str) -> str:
    """Returns the key of the last seven digits of a number with at least seven digits."""
    return f"digits {digits[-LONG:]}"


def with_digits(text: str, words: Vocabulary) -> str:
    """Returns a lower-case text with digits for number words and no thousands separators.

    A space is inserted between digits and letters of scripts that write no space between them.
    """
    text = _LETTER_DIGIT.sub(" ", text)
    text = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    text = _SHORT_SCALED.sub(lambda match: _scaled(match, _SHORT_SCALES), text)
    text = words.scaled_pattern.sub(lambda match: _scaled(match, words.scales), text)
    text = words.number_pattern.sub(lambda match: _spelled(match[0], words), text)
    text = words.repeated_pattern.sub(
        lambda match: " ".join(match["digit"] * words.repeats[match["word"]]), text
    )
    return _POINT.sub(r"\1.\2", text)


def _scaled(match: re.Match, scales: Mapping[str, int]) -> str:
    """Returns the digits of a matched number such as "3.5 million"."""
    fraction = match["fraction"] or ""
    value = int(match["whole"] + fraction) * scales[match["scale"]]
    return str(value // 10 ** len(fraction))


def _spelled(text: str, words: Vocabulary) -> str:
    """Returns the digits of number words, with spaces between several numbers."""
    if text in words.weak_numbers:
        return f"{WEAK}{words.number_words[text]}"
    numbers: list[int] = []
    total = part = None  # value of millions and thousands so far; value of the rest
    open_end = False  # True if a smaller number may follow
    for word in words.number_word.findall(text):
        if word in words.number_joiners:
            continue
        if (scale := words.scales.get(word)) is not None:
            part = (1 if part is None else part) * scale
            if scale >= 1000:
                total, part = (total or 0) + part, None
            open_end = True
            continue
        value = words.number_words[word]
        tens = part is not None and part % 100 >= 20 and part % 10 == 0 and 0 < value < 10
        hundreds = open_end and (part or 0) % 100 == 0 and value < 100
        if not (tens or hundreds) and (part is not None or total is not None):
            numbers.append((total or 0) + (part or 0))
            total = part = None
        part, open_end = (part or 0) + value, False
    numbers.append((total or 0) + (part or 0))
    return " ".join(map(str, numbers))


def dates(digits: str, words: Vocabulary) -> Iterator[tuple[re.Match, str, Keys]]:
    """Yields the match, the year and the keys of each date in a text from `with_digits`.

    The year is "" if the match contains no year.
    """
    for pattern in (*words.month_patterns, _YEAR_FIRST, _YEAR_LAST, _MONTH_DAY):
        for match in pattern.finditer(digits):
            day, month = int(match["day"]), words.months.get(match["month"])
            if month is None:
                month = int(match["month"])
            year = match.groupdict().get("year", "")
            if valid := _valid(day, month, pattern is _YEAR_LAST):
                yield match, year, frozenset(f"date {d}/{m}" for d, m in valid)


def _valid(day: int, month: int, any_order: bool) -> list[tuple[int, int]]:
    """Returns the (day, month) pairs that two numbers can mean, in one order or in any order."""
    orders = [(day, month), (month, day)] if any_order else [(day, month)]
    return [(d, m) for d, m in orders if 1 <= d <= 31 and 1 <= m <= 12]


def addresses(folded: str) -> list[Keys]:
    """Returns the keys of each e-mail address and web address in a lower-case text."""
    found = []
    for text in dict.fromkeys((folded, _SPELLED_AT.sub("@", _SPELLED_DOT.sub(".", folded)))):
        found += [frozenset({f"address {email}"}) for email in _EMAIL.findall(text)]
        for match in _WEB.finditer(text):
            host, path = match["host"], (match["path"] or "").rstrip("/.,;:!?)'")
            found.append(frozenset({f"address {host}", f"address {host}{path}"}))
    return found


def runs(digits: str, between: re.Pattern = _BETWEEN_DIGITS) -> Iterator[list[re.Match]]:
    """Yields runs of numbers and codes that only separators divide, in a text of `with_digits`."""
    run: list[re.Match] = []
    for match in _TOKEN.finditer(digits):
        if run and not between.fullmatch(digits, run[-1].end(), match.start()):
            yield run
            run = []
        run.append(match)
    if run:
        yield run


def number_of(token: str) -> str | None:
    """Returns the digits of a number, or None for a code of letters and digits."""
    if "." in token or "," in token:
        whole, _, fraction = token.replace(",", ".").partition(".")
        return whole + (f".{fraction.rstrip('0')}" if fraction.rstrip("0") else "")
    match = _WITH_UNIT.fullmatch(token)
    return match and match[1]


def _numbers(digits: str) -> set[str]:
    found = set()
    for run in runs(digits, _DICTATED):
        numbers = [number_of(match[0]) for match in run]
        parts = [n or re.sub(r"\D", "", match[0]) for n, match in zip(numbers, run, strict=True)]
        for begin in range(len(parts)):
            for end in range(begin + 1, min(begin + _MOST_PARTS, len(parts)) + 1):
                found.add(number_key("".join(parts[begin:end])))
        stream = "".join(re.sub(r"\D", "", match[0]) for match in run)
        found |= {long_key(stream[: end + 1]) for end in range(LONG - 1, len(stream))}
        found |= {number_key(re.sub(r"\D", "", match[0])) for match in run}  # 10.30 and 10:30
    return found


def _codes(digits: str) -> set[str]:
    chunks = list(_CHUNK.finditer(digits))
    near = {i for i, (a, b) in enumerate(pairwise(chunks)) if b.start() - a.end() <= 1}
    found = set()
    for begin, chunk in enumerate(chunks):
        code, end = chunk[0], begin
        while True:
            if any(c.isdigit() for c in code) and not code.isdigit():
                found.add(f"code {code}")
            if end not in near or end - begin + 1 == _MOST_PARTS:
                break
            end += 1
            code += chunks[end][0]
    return found


def unspaced(folded: str) -> Iterator[list[str]]:
    """Yields sequences of at least two neighbouring characters in scripts without word spaces.

    Each character includes its combining marks.
    """
    run: list[str] = []
    end = None
    for match in filter(lambda match: _SPACELESS.match(match[0]), spelled_words(folded)):
        if match.start() != end:
            if len(run) > 1:
                yield run
            run = []
        run.append(match[0])
        end = match.end()
    if len(run) > 1:
        yield run


def phrase_keys(characters: list[str]) -> Keys:
    """Returns the keys of a phrase.

    If the phrase has at most three characters, each pair of neighbours is a key. Otherwise, each
    three neighbours are a key, and so is each pair of Chinese characters, which may be a word.
    """
    pairs = ["".join(pair) for pair in pairwise(characters)]
    if len(characters) <= GRAMS[1]:
        return frozenset(f"phrase {pair}" for pair in pairs)
    words = [pair for pair in pairs if _HAN.fullmatch(pair)]
    longer = ["".join(characters[i : i + GRAMS[1]]) for i in range(len(characters) - GRAMS[1] + 1)]
    return frozenset(f"phrase {text}" for text in (*words, *longer))


def _phrases(folded: str) -> set[str]:
    return {
        f"phrase {''.join(run[i : i + size])}"
        for run in unspaced(folded)
        for size in GRAMS
        for i in range(len(run) - size + 1)
    }
