"""Splits text in any script into words, by one of two rules for ROUGE.

    ascii     the rule of the package `rouge_score` with its stemmer: words are lower-case runs of
              `[a-z0-9]`, and every other character separates words
    unicode   the rule of UAX 29 after NFKC and case folding; in scripts without spaces between
              words, each character with its combining marks is a word

A text of ASCII characters has the same words under both rules, because `unicode` splits and stems
words without a letter, mark or number beyond ASCII as `rouge_score` does.

References: Unicode Standard Annex 29, "Unicode Text Segmentation"; Lin, "ROUGE", 2004.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

import regex
from rouge_score import tokenize as rouge_tokenize

Words = Callable[[str], tuple[str, ...]]

_BOUNDARY = regex.compile(r"(?wV1)\b")  # With the flag w, \b matches the boundaries of UAX 29.
_HAS_WORD = regex.compile(r"[\p{Alphabetic}\p{N}]")
_BEYOND_ASCII = regex.compile(r"(?V1)[[\p{L}\p{M}\p{N}]--[\x00-\x7f]]")
_LETTER_BEYOND_ASCII = regex.compile(r"(?V1)[[\p{Alphabetic}\p{Nd}]--[\x00-\x7f]]")
_KATAKANA = regex.compile(r"\p{WB=Katakana}")
_CHARACTER = regex.compile(r"\X")
# This pattern matches soft hyphens, joiners and similar characters, but not the zero-width space,
# which separates words.
_INVISIBLE = regex.compile(r"(?V1)[\p{Default_Ignorable_Code_Point}--[\u200b]]")


@cache
def _porter():
    # The import of nltk takes about a second.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


class _CachedStemmer:
    """Porter stemmer with a cache, for the tokenizer of `rouge_score`.

    Without the cache, stemming takes 90 % of the time to compute a score. Answers often repeat
    words.
    """

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        return _porter().stem(word)


def ascii_words(text: str) -> tuple[str, ...]:
    """Splits a text into lower-case runs of `[a-z0-9]`, as `rouge_score` does.

    Words of more than 3 characters are Porter-stemmed. Every other character, such as a letter
    beyond ASCII, separates words.
    """
    return tuple(rouge_tokenize.tokenize(text, _CachedStemmer))


def unicode_words(text: str) -> tuple[str, ...]:
    """Splits a text in any script into words, by the rule `unicode` of this module.

    Combining marks (vowel signs, harakat) stay with their letters. Full-width forms, ligatures,
    case and invisible characters within a word make no difference.
    """
    if text.isascii():
        return ascii_words(text)
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    words: list[str] = []
    for part in _BOUNDARY.split(text):
        if not _HAS_WORD.search(part):
            continue
        if not _BEYOND_ASCII.search(part):
            words += ascii_words(part)
        elif _KATAKANA.match(part):  # UAX 29 itself divides the other scripts without spaces.
            words += filter(_HAS_WORD.search, _CHARACTER.findall(part))
        else:
            words.append(part)
    return tuple(words)


RULES: dict[str, Words] = {"ascii": ascii_words, "unicode": unicode_words}


def rule_for(setting: str, references: Iterable[str]) -> str:
    """Returns the name of the rule in `RULES` by which ROUGE splits texts into words.

    Args:
        setting: value of `data.words`, which is the name of a rule or `auto`.
        references: all reference texts. With `auto`, a letter or digit beyond ASCII in any
            reference selects `unicode`.
    """
    if setting != "auto":
        return setting
    return "unicode" if any(map(_LETTER_BEYOND_ASCII.search, references)) else "ascii"


def without_words(rule: str, ids: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Returns the ids of the texts without words. ROUGE cannot compare such texts.

    Args:
        rule: name of a rule in `RULES`.
        ids: id of each text.
        texts: the texts.
    """
    return [id_ for id_, text in zip(ids, texts, strict=True) if not RULES[rule](text)]
