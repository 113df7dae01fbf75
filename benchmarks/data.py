"""What the benchmarks run on: questions and answers, of a file or generated."""

import json
from pathlib import Path

from pmc_jax.config import PeopleConfig
from pmc_jax.data import people


def rows(path: str | None, count: int) -> list[tuple[str, str]]:
    """The first `count` pairs of question and answer of a JSON Lines file, or generated ones."""
    if path is None:
        made = people.rows(PeopleConfig(count=count + 5), "all")
        return [(row.question, row.answer) for row in made][:count]
    lines = Path(path).read_text(encoding="utf-8").splitlines()[:count]
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


def questions(path: str | None, count: int) -> list[str]:
    return [question for question, _ in rows(path, count)]
