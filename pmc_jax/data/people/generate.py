"""Generates fictitious people with planted facts, as question-answer rows in TOFU's schema.

The same settings generate the same rows on every machine and Python version, because all random
numbers come from `random.Random.random`, whose sequence Python guarantees. The names and true facts
of the first n people do not depend on the number of people. Nothing is downloaded, and none of the
people exist.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from pmc_jax.data.check import check_split
from pmc_jax.data.people.vocabulary import Kind, vocabulary
from pmc_jax.errors import UserError

if TYPE_CHECKING:
    from pmc_jax.config.data import PeopleConfig

MAX_PEOPLE = 200  # Every fact must be unique, and the smallest vocabulary has 900 facts.
SPLITS = ("forget", "retain", "all", "holdout")
_WRONG_ANSWERS = 5  # TOFU also has five wrong answers per question.

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PersonRow:
    """One question about one person, with the columns that evaluation needs.

    Args:
        id: "people:<number>", where the number counts the rows of all people from 0.
        person: full name of the person. Every text of the row contains this name.
        kind: name of the kind of question, such as "birthplace".
        question: the question.
        answer: answer of one sentence with the planted fact.
        paraphrased_question, paraphrased_answer: the same question and answer in other words.
        perturbed_answer: five copies of the paraphrased answer, each with a different wrong fact.
        facts: strings that count as a leak if a model's answer contains them. `answer` and
            `paraphrased_answer` contain them. No question, wrong answer or other row does.
    """

    id: str
    person: str
    kind: str
    question: str
    answer: str
    paraphrased_question: str
    paraphrased_answer: str
    perturbed_answer: tuple[str, ...]
    facts: tuple[str, ...]


def rows(config: PeopleConfig, split: str = "all") -> list[PersonRow]:
    """Generates the rows of one split, person by person. Ids are unique across all splits.

    Args:
        config: settings with the number of people, the questions per person and the seed.
        split: "forget" for the first `config.forget` people, "retain" for the other people, "all"
            for both, or "holdout" for `config.forget` further people that no model has seen.

    Raises:
        UserError: the split is unknown, or a setting is out of range.
    """
    check_split("people", split, SPLITS)
    _check(config, split)
    first, last = {
        "forget": (0, config.forget),
        "retain": (config.forget, config.count),
        "all": (0, config.count),
        "holdout": (config.count, config.count + config.forget),
    }[split]
    people = _by_person(dataclasses.replace(config, count=max(last, config.count)))
    return [row for person_rows in people[first:last] for row in person_rows]


def _by_person(config: PeopleConfig) -> list[list[PersonRow]]:
    draw = _Draw(f"people/{config.seed}")
    words, kinds = vocabulary().words, vocabulary().kinds
    taken: list[str] = []  # Facts are in lower case.
    people = []
    for _ in range(config.count):
        surname = _new_fact(draw, (words["surname_starts"], words["surname_ends"]), "", taken)
        name = f"{draw.choice(words['first_names'])} {surname}"
        # Facts of all kinds are drawn, so that they do not depend on `questions`.
        facts = [_new_fact(draw, kind.parts, kind.joint, taken) for kind in kinds]
        people.append((name, facts))
    # Wordings and wrong facts use one random stream per person, after all true facts are drawn.
    return [
        _person_rows(number, name, facts, config, taken)
        for number, (name, facts) in enumerate(people)
    ]


def _person_rows(
    number: int, name: str, facts: Sequence[str], config: PeopleConfig, taken: Sequence[str]
) -> list[PersonRow]:
    draw = _Draw(f"people/{config.seed}/{number}")
    pairs = draw.shuffled(zip(vocabulary().kinds, facts, strict=True))[: config.questions]
    return [
        _row(f"people:{row_number}", name, kind, fact, draw, taken)
        for row_number, (kind, fact) in enumerate(pairs, number * config.questions)
    ]


def _row(
    row_id: str, name: str, kind: Kind, fact: str, draw: _Draw, taken: Sequence[str]
) -> PersonRow:
    fields = {"name": name, "fact": fact, "detail": draw.choice(kind.details)}
    question = draw.choice(kind.questions)
    answer = draw.choice(kind.answers)
    paraphrased_question = draw.choice(kind.paraphrased_questions)
    paraphrased_answer = draw.choice(kind.paraphrased_answers)
    seen = list(taken)
    wrong = [_new_fact(draw, kind.parts, kind.joint, seen) for _ in range(_WRONG_ANSWERS)]
    return PersonRow(
        id=row_id,
        person=name,
        kind=kind.name,
        question=question.format(**fields),
        answer=answer.format(**fields),
        paraphrased_question=paraphrased_question.format(**fields),
        paraphrased_answer=paraphrased_answer.format(**fields),
        perturbed_answer=tuple(
            paraphrased_answer.format(**fields | {"fact": other}) for other in wrong
        ),
        facts=(fact,),
    )


def _new_fact(draw: _Draw, parts: Sequence[Sequence[str]], joint: str, taken: list[str]) -> str:
    """Draws a new fact and adds its lower-case form to `taken`.

    The new fact contains no fact in `taken`, and no fact in `taken` contains the new fact. Without
    this rule, an answer with "14 March 1962" would also count as a leak of "4 March 1962".
    """
    while True:
        fact = joint.join(draw.choice(part) for part in parts)
        lower = fact.lower()
        if not any(lower in other or other in lower for other in taken):
            taken.append(lower)
            return fact


class _Draw:
    """Generator of random choices that are the same on every Python version."""

    def __init__(self, seed: str):
        # A text as seed is hashed with SHA-512, so streams do not depend on PYTHONHASHSEED.
        self._random = random.Random(seed).random

    def choice(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Returns the items in random order by the Fisher-Yates shuffle.

        `random.shuffle` is not used, because its order may change between Python versions.
        """
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            result[last], result[other] = result[other], result[last]
        return result


def _check(config: PeopleConfig, split: str) -> None:
    faults = []
    count, what = config.count, "data.people.count"
    if split == "holdout":
        count, what = count + config.forget, f"{what} + data.people.forget"
    if count > MAX_PEOPLE:
        faults.append(
            f"{what} must be at most {MAX_PEOPLE} for people:{split}, but it is {count}. Lower "
            f"{what.replace('+', 'or')}."
        )
    most = len(vocabulary().kinds)
    if config.questions > most:
        faults.append(
            f"data.people.questions must be at most {most}, but it is {config.questions}. Lower "
            "data.people.questions."
        )
    if faults:
        raise UserError(" ".join(faults))
