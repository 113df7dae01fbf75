"""Settings of the data: the sources of rows, and the fictitious people.

`pmc_jax.data` checks the paths when it reads the data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pmc_jax.config import schema
from pmc_jax.config.schema import BELOW_ONE, NOT_EMPTY, SEED, Check, Section, between, setting

EVALUATION_SETS = (
    "forget",
    "forget_paraphrased",
    "retain",
    "world_facts",
    "real_authors",
    "unrelated",  # These rows are about subjects that neither forget nor retain rows have.
    "holdout",  # These rows resemble the forget rows, but no model has seen them.
    "relearn",  # The relearning attack trains on these rows.
)


def _is_rows(text: str) -> bool:
    parts = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", text)
    if parts is None:
        return False
    start, stop = parts.groups()
    return not stop or int(start or 0) < int(stop)


OWN = "own"  # path of `data.retain` with which the target model answers the retain questions

_ROWS = Check("a range 'first:end' with end above first, such as '0:40'", _is_rows)


@dataclass(frozen=True)
class SourceConfig(Section):
    """A source of rows, such as a file with the columns `question` and `answer`.

    In YAML, a source can be written as its path alone.

    Fields:
        path: file, or an address such as people:forget (see `pmc_jax.data.sources`); None means
            that the source is not given.
        rows: range "first:end" of the rows to read, which are counted from 0; the row `end` is not
            read; None selects all rows.
        question: name of the question column, which may hold chat messages; None selects `question`
            or, if the source lacks it, the column of another usual format, such as `prompt`,
            `instruction` or `messages`.
        subject: name of the optional column with the person or thing that a forget question is
            about, as the question spells it, or with an empty value; only `data.forget` reads it.
        answer: name of the answer column, which `data.forget` never reads; None selects `answer`
            or, if the source lacks it, the column of another usual format, such as `completion` or
            `output`; chat messages hold their answers.
        paraphrased: name of the optional column with the paraphrased answer, which only evaluation
            reads.
        wrong: name of the optional column with a list of wrong answers, which only evaluation
            reads.

    Example:
        >>> pmc.SourceConfig(path="forget.csv", rows="0:40")
        SourceConfig(path='forget.csv', rows='0:40')
    """

    path: str | None = None
    rows: str | None = setting(None, _ROWS)
    question: str | None = setting(None, NOT_EMPTY)
    subject: str = setting("subject", NOT_EMPTY)
    answer: str | None = setting(None, NOT_EMPTY)
    paraphrased: str = setting("paraphrased_answer", NOT_EMPTY)
    wrong: str = setting("perturbed_answer", NOT_EMPTY)

    shorthand = "path"

    @property
    def is_own(self) -> bool:
        """Whether `data.retain`, with these settings, selects the target model's own answers."""
        return self.path in (None, OWN)


@dataclass(frozen=True)
class PeopleConfig(Section):
    """The fictitious people whom the data source `people:` generates.

    Fields:
        count: number of people, at most 200 together with the people of `people:holdout` if this
            source is read.
        forget: number of people to forget, which must be smaller than `count`.
        questions: number of questions about each person, at most 12.
        seed: seed of the generator.

    Example:
        >>> pmc.PeopleConfig(count=8, forget=2)
        PeopleConfig(count=8, forget=2)
    """

    count: int = setting(12, between(2, 10**6))
    forget: int = setting(4, between(1, 10**6))
    questions: int = setting(5, between(1, 10**6))
    seed: int = setting(0, SEED)

    def cross_faults(self) -> list[str]:
        if self.forget < self.count:
            return []
        return [f"forget: the value must be below count ({self.count}), but it is {self.forget}."]


@dataclass(frozen=True)
class DataConfig(Section):
    """The sources of rows for training and evaluation.

    Fields:
        root: folder to which the paths of sources are relative; "" selects the current folder.
        forget: source of the forget questions, whose answers are never read.
        retain: source of the retain data, which are question-answer pairs that the model must keep;
            without a source, or with the path own, the retain data are the target model's own
            answers to general questions and to forget questions with other names.
        retain_more: further sources of retain data, such as general questions, so that the model
            keeps answering them; the path own adds the target model's own answers.
        retain_test_size: share of the rows of `data.retain` that is held out of training and
            measured before and after unlearning, rounded down to whole rows, which the seed
            selects; fewer than 8 such rows are not held out, and 0 holds out none.
        forget_answers: source of the forget questions with their true answers, for methods that
            train on true answers; PMC never reads this source.
        evaluate: mapping from the names of evaluation sets to their sources of question-answer
            pairs, on which unlearning never trains.
        people: settings of the fictitious people, for sources with the path `people:...`.
        max_length: maximum number of tokens in a row, which holds a prompt and an answer.
        long_rows: action for a row with more tokens than `max_length` or the window of the model
            (error | drop); rows of forget questions cannot be dropped.
        on_overlap: action if a forget question is also a retain question (warn | error).
        words: rule by which ROUGE splits texts into words (auto | ascii | unicode); ascii finds
            words of a-z and 0-9, as `rouge_score` does, unicode finds words in any script, and auto
            selects unicode if a reference answer has a letter or digit beyond ASCII, and ascii
            otherwise.

    Example:
        >>> pmc.DataConfig(forget=pmc.SourceConfig(path="forget.csv"), long_rows="drop")
        DataConfig(forget=SourceConfig(path='forget.csv'), long_rows='drop')
    """

    root: str = ""
    forget: SourceConfig = field(default_factory=SourceConfig)
    retain: SourceConfig = field(default_factory=SourceConfig)
    retain_more: tuple[SourceConfig, ...] = ()
    retain_test_size: float = setting(0.2, BELOW_ONE)
    forget_answers: SourceConfig = field(default_factory=SourceConfig)
    evaluate: dict[str, SourceConfig] = field(
        default_factory=dict, metadata={schema.KEYS: EVALUATION_SETS}
    )
    people: PeopleConfig = field(default_factory=PeopleConfig)
    max_length: int = setting(256, between(2, 10**6))
    long_rows: Literal["error", "drop"] = "error"
    on_overlap: Literal["warn", "error"] = "warn"
    words: Literal["auto", "ascii", "unicode"] = "auto"

    @property
    def retain_sources(self) -> dict[str, SourceConfig]:
        """The sources of retain pairs by their settings, without the model's own answers."""
        more = {f"data.retain_more.{i}": more for i, more in enumerate(self.retain_more)}
        more = {where: source for where, source in more.items() if source.path != OWN}
        return more if self.retain.is_own else {"data.retain": self.retain} | more

    @property
    def adds_own_answers(self) -> bool:
        """Whether the target model's own answers are further retain data."""
        return any(source.path == OWN for source in self.retain_more)
