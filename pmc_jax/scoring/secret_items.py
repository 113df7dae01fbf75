"""Finds the secret items of answers: the parts that identify somebody or something.

    number     Digits with or without separators, and number words. A group of at least four digits
               is also an item.
    date       Day and month. The year is a number.
    address    E-mail address or web address.
    code       Word of letters and digits.
    name       Word that begins with a capital letter inside a sentence.
    rare word  Another word of at least four letters (two in scripts without letter case).
    phrase     At least two neighbouring characters, in scripts without spaces between words.

`secret_readings` compares items in any spelling. An item is secret if it is not in the question and
is in few other answers: in at most three or 10 % of them, whichever is more, or for a rare word in
at most one or 1 %. The other answers are those to the other forget questions and to the retain
questions, so no corpus is needed. Number words, names of months and common words in
`secret_words.yaml` are neither names nor rare words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from pmc_jax.data.spelling import spelled_words
from pmc_jax.scoring import secret_readings
from pmc_jax.scoring.secret_readings import Keys, keys
from pmc_jax.scoring.secret_vocabulary import Vocabulary, visible
from pmc_jax.scoring.words import unicode_words

_FREQUENT, _FREQUENT_RARE_WORD = (
    (3, 0.1),
    (1, 0.01),
)  # maximum count and share of other answers with an item
_WHOLE_GROUP = 4  # minimum length of a group of digits that is an item on its own
_SENTENCE_START = re.compile(r"(?:^|[.!?:;])[\s\W]*$")

IsSecret = Callable[[Keys, bool], bool]  # (keys of an item, whether it is a rare word)


def secret_items(
    answers: Sequence[str],
    questions: Sequence[str],
    retained: Iterable[str],
    words: Vocabulary,
    others: Sequence[str] = (),
) -> list[list[Keys]]:
    """Finds the secret items of each answer.

    Args:
        answers: answers to search.
        questions: question of each answer.
        retained: answers to retain questions.
        words: tables of number words, month names and common words.
        others: one answer to each question, in which the frequency of items is counted. If `others`
            is empty, the frequency is counted in `answers`.

    Returns:
        A list of items for each answer. An item is the set of its keys.
    """
    public = [keys(answer, words) for answer in retained]
    own = [keys(answer, words) for answer in others or answers]
    count = Counter(key for found in (*public, *own) for key in found)
    total = len(public) + len(own) - 1
    found = []
    for answer, question, mine in zip(answers, questions, own, strict=True):
        given = keys(question, words)

        def is_secret(item: Keys, is_rare_word: bool, mine=mine, given=given) -> bool:
            most, share = _FREQUENT_RARE_WORD if is_rare_word else _FREQUENT
            frequency = max(count[key] - (key in mine) for key in item)
            return not item & given and frequency <= max(most, share * total)

        found.append(list(dict.fromkeys(items_of(answer, words, is_secret))))
    return found


def gives(answer: str, items: Iterable[Keys], words: Vocabulary) -> bool:
    """Returns whether an answer gives one of the items."""
    found = keys(answer, words)
    return not all(item.isdisjoint(found) for item in items)


def items_of(answer: str, words: Vocabulary, is_secret: IsSecret) -> Iterator[Keys]:
    """Yields the items of an answer that `is_secret` accepts.

    Args:
        answer: answer to search.
        words: tables of number words, month names and common words.
        is_secret: called with the keys of an item and whether the item is a rare word.
    """
    text = visible(answer)
    folded = text.casefold()
    digits = secret_readings.with_digits(folded, words)
    items = []
    for match, year, date in list(secret_readings.dates(digits, words)):
        items.append(date)
        # The remaining year of four digits is a number.
        left = year if len(year) == _WHOLE_GROUP else ""
        digits = digits[: match.start()] + left.rjust(len(match[0])) + digits[match.end() :]
    items += secret_readings.addresses(folded)
    for run in secret_readings.runs(digits):
        items += _numbers(digits, run)
    yield from (item for item in items if is_secret(item, False))
    yield from _words(text, words, is_secret)
    for run in secret_readings.unspaced(folded):
        yield from _secret_phrases(run, words, is_secret)


def _numbers(digits: str, run: Sequence[re.Match]) -> Iterator[Keys]:
    """Yields the items of a run of numbers and codes (see `secret_readings.runs`)."""
    before = (digits[match.start() - 1 : match.start()] for match in run)
    tokens = [m[0] for m, mark in zip(run, before, strict=True) if mark != secret_readings.WEAK]
    numbers = [secret_readings.number_of(token) for token in tokens]
    codes = [token for token, number in zip(tokens, numbers, strict=True) if number is None]
    groups = [number for number in numbers if number is not None]
    if codes:
        long = re.findall(rf"\d{{{secret_readings.LONG},}}", " ".join(codes))
        yield frozenset(
            {f"code {code}" for code in (*codes, "".join(tokens))}
            | {secret_readings.long_key(digits) for digits in long}
        )
    elif groups:
        whole, *groups = "".join(groups), *(groups if len(groups) > 1 else ())
        is_long = whole.isdigit() and len(whole) >= secret_readings.LONG
        long = [secret_readings.long_key(whole)] if is_long else []
        yield frozenset({secret_readings.number_key(whole), *long})
    yield from (
        frozenset({secret_readings.number_key(group)})
        for group in groups
        if len(group.lstrip("0")) >= _WHOLE_GROUP
    )


def _words(text: str, words: Vocabulary, is_secret: IsSecret) -> Iterator[Keys]:
    """Yields the secret names and rare words of a text."""
    for match in spelled_words(text):
        word = match[0]
        if any(map(str.isdigit, word)):
            continue
        has_case = word.lower() != word.upper()
        is_name = word[0].isupper() and not _SENTENCE_START.search(text, 0, match.start())
        if len(word) < (4 if has_case and not is_name else 2):
            continue
        for stem in unicode_words(word.casefold()):
            item = frozenset({f"word {stem}"})
            if stem not in words.never_secret and is_secret(item, not is_name):
                yield item


def _secret_phrases(run: Sequence[str], words: Vocabulary, is_secret: IsSecret) -> Iterator[Keys]:
    """Yields the keys of each phrase of at least two secret characters.

    A secret character is in few other answers and not in the question.
    """

    def own(character: str) -> bool:
        stems = unicode_words(character)
        return bool(stems) and is_secret(frozenset(f"word {stem}" for stem in stems), False)

    for is_own, group in groupby(run, own):
        if is_own and len(characters := list(group)) > 1:
            yield secret_readings.phrase_keys(characters)
