"""Finds invented facts: specific facts in an answer that its question does not state.

Numbers, dates, addresses, codes and names count, as `secret_items` defines them. Words without a
capital letter do not count, because no list tells a rare word from an invented fact: a profession
that a model invents is not found. Scripts without letter case have no names, and in German, where
all nouns have a capital letter, a name is a word beside another capitalised word or after a word
such as "in" or "heißt".
"""

import re

import regex

from pmc_jax.scoring.secret_items import items_of
from pmc_jax.scoring.secret_readings import Keys, keys
from pmc_jax.scoring.secret_vocabulary import Vocabulary, visible

_LIST_MARK = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_LOWER_CASE_WORD = regex.compile(r"(?<![\w'’])\p{Ll}")
_GERMAN = frozenset(("ich", "nicht", "und", "ist", "der", "das", "eine", "keine", "wo", "wie"))
_GERMAN_NOUN = regex.compile(
    r"(?<![\p{Lu}]\w*\s)(?<!\b(?:in|nach|aus|heisst|heißt|namens|Herrn?|Frau|Dr\.?)\s)"
    r"\b\p{Lu}\w+(?!\s\p{Lu})"
)
_STEM, _ENDING = 3, 3  # minimum length of the stem of a name, maximum length of its ending


def invented_facts(question: str, answer: str, words: Vocabulary) -> list[Keys]:
    """Finds the facts of an answer that its question does not state.

    Args:
        question: the question.
        answer: the answer.
        words: tables of number words, month names and common words.

    Returns:
        A list of numbers, dates, addresses, codes and names, each as the set of its keys.
    """
    given = keys(question, words)
    forms = [key for key in given if not key.isascii()]

    def is_fact(item: Keys, is_rare_word: bool) -> bool:
        return not (is_rare_word or item & given or any(_is_form(key, forms) for key in item))

    text = _LIST_MARK.sub("", visible(answer))
    if not _LOWER_CASE_WORD.search(text):
        text = f"it is {text}"  # The first word of "Paris" is a name, as in "it is Paris".
    if len(_GERMAN.intersection(f"{question} {text}".lower().split())) > 1:
        text = _GERMAN_NOUN.sub(lambda match: match[0].lower(), text)
    found = dict.fromkeys(items_of(text, words, is_fact))
    return [item for item in found if not all(key.startswith("phrase ") for key in item)]


def invents(question: str, answer: str, words: Vocabulary) -> bool:
    """Returns whether an answer has a fact that its question does not state."""
    return bool(invented_facts(question, answer, words))


def foreign_words(text: str, known: Keys, words: Vocabulary) -> list[Keys]:
    """Finds words without a capital letter that may state a fact.

    Examples are "bamboo" and "ukulele" in "I don't know who plays an old bamboo ukulele", if the
    question does not contain them.

    Args:
        text: the text, in lower case.
        known: keys of the texts whose words are no facts, such as questions.
        words: tables of number words, month names and common words.

    Returns:
        A list of words that are rare words of `secret_items` and not known, each as the set of its
        keys.
    """
    forms = [key for key in known if not key.isascii()]

    def is_foreign(item: Keys, is_rare_word: bool) -> bool:
        return is_rare_word and not (item & known or any(_is_form(key, forms) for key in item))

    return list(dict.fromkeys(items_of(text, words, is_foreign)))


def _is_form(key: str, others: list[str]) -> bool:
    """Returns whether a word with letters beyond ASCII is another word with another ending."""
    if key.isascii() or not key.startswith("word "):
        return False
    stems = (max(len("word ") + _STEM, max(len(key), len(o)) - _ENDING) for o in others)
    return any(key[:n] == other[:n] for n, other in zip(stems, others, strict=True))
