"""Provides questions and answers for the benchmarks, from a file or generated."""

import itertools
import json
from pathlib import Path

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.people import generate
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.packing import Packer

# Coefficients of the collapse term and the retain term.
COEFFICIENTS = [1.0, 1.25]


def rows(path: str | None, count: int) -> list[tuple[str, str]]:
    """Returns the first `count` question-answer pairs of a JSON Lines file, or generated pairs."""
    if path is None:  # The generated pairs repeat if there are fewer than `count`.
        made = generate.rows(PeopleConfig(count=min(count + 5, 200)), "all")
        rows = itertools.cycle((row.question, row.answer) for row in made)
        return list(itertools.islice(rows, count))
    lines = Path(path).read_text(encoding="utf-8").splitlines()[:count]
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


def training_step(
    generator: TextGenerator, pairs: list[tuple[str, str]]
) -> tuple[TrainBatch, list[list[TokenSequence]]]:
    """Packs half of the pairs as forget rows and half as retain rows.

    Returns:
        The packed batch, and the token sequences of both terms.
    """
    sequences = [generator.encoder.sequence(*pair) for pair in pairs]
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in sequences])
    lengths = [len(s) for s in sequences]
    multiple = generator.layout.row_multiple
    packer = Packer.fit(prefix, lengths, len(pairs), multiple)
    half = len(pairs) // 2
    terms = [sequences[:half], sequences[half:]]
    return packer.pack(terms, COEFFICIENTS), terms


def questions(path: str | None, count: int) -> list[str]:
    return [question for question, _ in rows(path, count)]
