"""Detects abstentions: answers that say only that the speaker does not know or does not tell.

An answer is divided into clauses, at the ends of sentences and at words such as "but" and
"maybe". It is an abstention if at least one clause says so ("I don't know", "I can't help with
that", "it is not publicly known"), and every other clause is an apology, an offer of help, advice
or a question. "I'm not sure, but she lives in Velamora" is thus no abstention, and neither is "She
did not know her father". The facts inside a clause are not judged: "I don't know if she lives in
Velamora" is an abstention, and `secret_items` and `invention` find what it gives away.

`abstentions.yaml` has the patterns, and the openings that a model continues to an abstention.
"""

import functools
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import regex
import yaml

from pmc_jax.data.lines import read_lines
from pmc_jax.errors import UserError
from pmc_jax.scoring.secret_vocabulary import visible

_PACKAGED = importlib.resources.files("pmc_jax.scoring") / "abstentions.yaml"
_MAX_OPENINGS = 1000
_MAX_CHARACTERS = 1000
_FULL_FORMS = {  # in this order
    "[’‘ʼ`´]": "'",
    r"\bcan(?:'t|not)\b": "can not",
    r"\bwon't\b": "will not",
    r"\b(do|did|does|is|are|was|were|has|have|had|could|would)n'?t\b": r"\1 not",
    r"\bi'?m\b": "i am",
    r"\b(that|there|it|he|she)'s\b": r"\1 is",
    r"'ve\b": " have",
    r"'d\b": " would",
    r"\bwe are\b": "i am",
    r"\bwe\b": "i",
    r"\b(mr|mrs|ms|dr|prof|st|[a-z])\.": r"\1",  # no end of a sentence
}
_SENTENCE_END = r"[.!?;:…]+(?=[\s\"'”»)]|$)|[。！？；]|\n"
_WORD = regex.compile(r"\w")
_QUOTE = regex.compile('["“„«]')


@dataclass(frozen=True)
class Abstentions:
    """Ways to say that one does not know.

    Attributes:
        openings: first words of abstentions.
        phrases: pattern of what a clause of an abstention says.
        breaks: pattern of the words or marks between two clauses.
        harmless: pattern of the beginning of a clause that gives no fact.
    """

    openings: tuple[str, ...]
    phrases: regex.Pattern
    breaks: regex.Pattern
    harmless: regex.Pattern

    def is_abstention(self, answer: str) -> bool:
        """Returns whether an answer says only that the speaker does not know or does not tell."""
        return self.rest(answer) is not None

    def rest(self, answer: str) -> str | None:
        """Returns the words of an abstention outside its phrases and harmless clauses.

        The words are in lower case and without accents: "where jane roe lives" for "Sorry, but I
        don't know where Jane Roe lives." The result is None if the answer is no abstention.
        """
        rest = []
        for clause in _clauses(answer, self.breaks):
            found = self.phrases.search(clause)
            # A quoted phrase is the name of a song or the like.
            if found and not _QUOTE.search(clause[: found.start()]):
                rest.append(self.phrases.sub(" ", clause).strip())
            elif not self.harmless.match(clause):
                return None
        return " . ".join(rest) if rest else None


def abstentions(
    languages: Sequence[str] = ("en",), openings_file: str | None = None
) -> Abstentions:
    """Returns the abstentions of `abstentions.yaml`.

    Whatever `languages` is, the patterns of all languages detect abstentions.

    Args:
        languages: codes of the languages whose openings are used.
        openings_file: text file with one opening in each line. These openings replace those of
            `languages`, and a clause with one of them is an abstention, too.

    Raises:
        UserError: there are no openings for a language, or the file is missing, empty, not UTF-8 or
            too long.
    """
    tables = _tables()
    for language in languages:
        if language not in tables:
            raise UserError(
                f"pmc.abstention.languages: there are no openings for {language!r}. Use "
                f"{', '.join(tables)}, or [] and name a file in pmc.abstention.openings_file."
            )
    if openings_file is None:
        openings = [text for language in languages for text in tables[language]["openings"]]
    else:
        openings = read_lines(openings_file, "pmc.abstention.openings_file")
        longest = max(map(len, openings))
        if len(openings) > _MAX_OPENINGS or longest > _MAX_CHARACTERS:
            raise UserError(
                f"pmc.abstention.openings_file: the file {openings_file} may have {_MAX_OPENINGS} "
                f"lines of {_MAX_CHARACTERS} characters at most, but it has {len(openings)} lines "
                f"of up to {longest} characters. Keep fewer or shorter lines."
            )
    return _compiled(tuple(dict.fromkeys(openings)))


@functools.cache
def _compiled(openings: tuple[str, ...]) -> Abstentions:
    packaged = [text for table in _tables().values() for text in table["openings"]]
    breaks = _any("breaks", [_SENTENCE_END])
    # An opening may begin with another clause ("I'm sorry, but ...").
    last = {clauses[-1] for text in (*openings, *packaged) if (clauses := _clauses(text, breaks))}
    phrases = [
        rf"\b{regex.escape(text, literal_spaces=True)}\b" for text in sorted(last, key=len)[::-1]
    ]
    return Abstentions(openings, _any("phrases", phrases), breaks, _any("harmless"))


@functools.cache
def _tables() -> Mapping[str, Mapping[str, list[str]]]:
    return yaml.safe_load(_PACKAGED.read_text(encoding="utf-8"))


def _any(table: str, first: Iterable[str] = ()) -> regex.Pattern:
    """Returns the union of the patterns `first` and the patterns of a table in all languages."""
    patterns = [visible(p).casefold() for tables in _tables().values() for p in tables[table]]
    return regex.compile("|".join(f"(?:{pattern})" for pattern in (*first, *patterns)))


def _clauses(text: str, breaks: regex.Pattern) -> list[str]:
    """Returns the clauses of a text in lower case, without accents and contractions.

    Questions are left out.
    """
    text = visible(text).casefold()
    for short, full in _FULL_FORMS.items():
        text = regex.sub(short, full, text)
    ends = [*breaks.finditer(text), None]
    starts = [0, *(match.end() for match in ends[:-1])]
    clauses = []
    for start, end in zip(starts, ends, strict=True):
        clause = text[start : end.start() if end else None].strip(" \t\"'“”«»,，-–—()")
        is_question = end is not None and end[0].startswith(("?", "？"))
        if _WORD.search(clause) and not is_question:
            clauses.append(clause)
    return clauses
