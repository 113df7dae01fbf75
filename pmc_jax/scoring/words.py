"""Words of texts in any script, and the two rules by which ROUGE makes words.

    ascii     words of `rouge_score` with its stemmer: lower-case runs of `[a-z0-9]`; every other
              character separates words
    unicode   words between the boundaries of UAX 29, after NFKC and case folding; one character,
              with its combining marks, in scripts that write no spaces between words

A text of ASCII characters has the same words under both rules: under `unicode`, a word without a
letter, mark or number beyond ASCII is divided and stemmed as `rouge_score` does it.

References: Unicode Standard Annex 29, "Unicode Text Segmentation"; Lin, "ROUGE", 2004.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

import regex
from rouge_score import tokenize as rouge_tokenize

Words = Callable[[str], tuple[str, ...]]

# LB=SA: Thai, Lao, Khmer, Myanmar and their neighbours.
_SPACELESS = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{LB=SA}]"
_SPACED = rf"[\w--{_SPACELESS}]"
_ONE_OR_RUN = regex.compile(rf"(?V1)[\w&&{_SPACELESS}]\p{{M}}*|{_SPACED}+")
_PIECE = regex.compile(rf"{_ONE_OR_RUN.pattern}|[^\w\s]")
_BLANK_SEPARATED = regex.compile(rf"(?V1)[\w&&{_SPACELESS}]\p{{M}}*|[^\s{_SPACELESS}]+")
_SPACELESS_START = regex.compile(rf"(?V1)[\w&&{_SPACELESS}]")
_SPACELESS_END = regex.compile(rf"(?V1)[\w&&{_SPACELESS}]\p{{M}}*$")

_BOUNDARY = regex.compile(r"(?wV1)\b")  # with the flag w, the boundaries of UAX 29
_HAS_WORD = regex.compile(r"[\p{Alphabetic}\p{N}]")
_BEYOND_ASCII = regex.compile(r"(?V1)[[\p{L}\p{M}\p{N}]--[\x00-\x7f]]")
_LETTER_BEYOND_ASCII = regex.compile(r"(?V1)[[\p{Alphabetic}\p{Nd}]--[\x00-\x7f]]")
_KATAKANA = regex.compile(r"\p{WB=Katakana}")
_CHARACTER = regex.compile(r"\X")
# Soft hyphens, joiners and the like. The zero-width space stays: it separates words.
_INVISIBLE = regex.compile(r"(?V1)[\p{Default_Ignorable_Code_Point}--[\u200b]]")


@cache
def _porter():
    # Imported on first use: nltk takes about a second to import.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


class _CachedStemmer:
    """The object with a `.stem` that the tokenizer of rouge_score expects; stems each word once.

    Stemming is 90 % of the time of an uncached score and the words of answers repeat.
    """

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def stem(word: str) -> str:
        return _porter().stem(word)


def ascii_words(text: str) -> tuple[str, ...]:
    """Returns the lower-case runs of `[a-z0-9]`, those of more than 3 characters Porter-stemmed.

    Every other character, letters beyond ASCII included, separates words, as in rouge_score.
    """
    return tuple(rouge_tokenize.tokenize(text, _CachedStemmer))


def unicode_words(text: str) -> tuple[str, ...]:
    """Returns the words of a text in any script, by the rule `unicode` of this module.

    Combining marks (vowel signs, harakat) stay with their letter. Full-width letters, ligatures and
    case make no difference, nor do invisible characters within a word.
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
        elif _KATAKANA.match(part):  # UAX 29 divides the other scripts without spaces itself
            words += filter(_HAS_WORD.search, _CHARACTER.findall(part))
        else:
            words.append(part)
    return tuple(words)


RULES: dict[str, Words] = {"ascii": ascii_words, "unicode": unicode_words}


def rule_for(setting: str, references: Iterable[str]) -> str:
    """Returns the name of the rule in `RULES` by which ROUGE makes the words of some references.

    Args:
        setting: `data.words`: the name of a rule, or auto.
        references: all texts that others are compared with. With auto, one letter or digit beyond
            ASCII in any of them selects `unicode`.
    """
    if setting != "auto":
        return setting
    return "unicode" if any(map(_LETTER_BEYOND_ASCII.search, references)) else "ascii"


def without_words(rule: str, ids: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Returns the ids of the texts that have no word: ROUGE has nothing to compare with."""
    return [id_ for id_, text in zip(ids, texts, strict=True) if not RULES[rule](text)]


def spelled_words(text: str) -> list[regex.Match]:
    """Returns matches of the words as they are spelled: runs of letters, marks, digits and `_`, and
    single characters in scripts without spaces.
    """
    return list(_ONE_OR_RUN.finditer(text))


def words_and_marks(text: str) -> list[str]:
    """Returns the words of `spelled_words` and, in between, each punctuation mark or symbol."""
    return _PIECE.findall(text)


def count_blank_separated(text: str) -> int:
    """Counts the words between white space; each character of a script without spaces is one."""
    return len(_BLANK_SEPARATED.findall(text))


def any_of(strings: Sequence[str]) -> regex.Pattern:
    """Returns a pattern that finds any of some strings, longest first, where it is not part of a
    longer word. In scripts without spaces, a string is found anywhere.
    """

    def bounded(text: str) -> str:
        before = "" if _SPACELESS_START.match(text) else rf"(?<!{_SPACED})"
        after = "" if _SPACELESS_END.search(text) else rf"(?!{_SPACED})"
        return before + regex.escape(text, literal_spaces=True) + after

    return regex.compile("(?V1)" + "|".join(map(bounded, sorted(strings, key=len, reverse=True))))
