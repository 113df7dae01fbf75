"""Words and sentences for the generated people, read from the data file `people.yaml`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
from typing import Any

import yaml


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of question.

    The wordings contain {name} for the person, {fact} for the planted fact and {detail} for a
    harmless detail.

    Args:
        name: name of the kind, such as "birthplace".
        parts: lists of strings. A fact is made of one string from each list.
        joint: separator between the strings of a fact.
        details: values for {detail}. Each row uses one of them.
        questions, answers: wordings for the question and the answer of a row.
        paraphrased_questions, paraphrased_answers: different wordings for the paraphrase of a row.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    joint: str
    details: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    paraphrased_questions: tuple[str, ...]
    paraphrased_answers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Contents of `people.yaml`: named lists of words, and the kinds of questions."""

    words: dict[str, tuple[str, ...]]
    kinds: tuple[Kind, ...]


@functools.cache
def vocabulary() -> Vocabulary:
    """Returns the contents of `people.yaml`."""
    file = importlib.resources.files("pmc_jax.data.people") / "people.yaml"
    contents = yaml.safe_load(file.read_text(encoding="utf-8"))
    words = {name: _split(text) for name, text in contents["words"].items()}
    return Vocabulary(words, tuple(_kind(**entry) for entry in contents["kinds"]))


def _kind(name: str, parts: list[str], joint: str, details: str, **wordings: Any) -> Kind:
    texts = {key: tuple(sentences) for key, sentences in wordings.items()}
    return Kind(name, tuple(map(_split, parts)), joint, _split(details), **texts)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))
