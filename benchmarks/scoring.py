"""Measures the speed of scores: python benchmarks/scoring.py [--data FILE] [--against rouge_score]

The script scores each answer of a JSON Lines file (or each generated answer) against another
answer, as PMC scores samples. With `--against`, rouge_score also scores the same pairs. The other
scores are measured with `--samples` samples per question. token_lcs uses words as tokens. Its speed
is measured as a score of texts and, as lcs_lengths, with all questions in one call on the device.
The last output line is JSON.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import pairs
from data import rows
from record import print_record, spread
from rouge_score import rouge_scorer

from pmc_jax.sampling.lcs import lcs_lengths
from pmc_jax.scoring import rouge, words
from pmc_jax.scoring.base import Score
from pmc_jax.scoring.text import chrf, combined, forbidden, rougeL_recall
from pmc_jax.scoring.token_lcs import token_lcs

_TOKENS = 96  # maximum number of tokens per answer on the device
_FORBIDDEN = 20  # number of forbidden strings

Questions = Sequence[tuple[str, Sequence[str]]]


def rates(questions: Questions, answers: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measures the answers per second of each score. The first call is not counted."""
    encode = WordIds()
    strings = [" ".join(text.split()[-3:]) for text, _ in questions[:_FORBIDDEN]]
    forbidden_strings = forbidden(strings)
    named: Mapping[str, Score] = {
        "rougeL_recall": rougeL_recall,
        "chrf": chrf,
        "token_lcs": token_lcs(encode),
        "forbidden": forbidden_strings,
        "rougeL_recall + forbidden": combined([rougeL_recall, forbidden_strings], [1, 1]),
    }

    def all_of(score: Score) -> Callable[[], None]:
        def run() -> None:
            for original, samples in questions:
                score(original, samples)

        return run

    arrays = token_arrays(questions, encode)
    runs = {name: all_of(score) for name, score in named.items()}
    runs["lcs_lengths"] = lambda: jax.block_until_ready(lcs_lengths(*arrays))
    found = {}
    for name, run in runs.items():
        run()
        found[name] = spread([answers / _seconds(run) for _ in range(repeats)])
    return found


class WordIds:
    """Mapping of words to ids, which are numbered in the order of the words' first occurrence."""

    def __init__(self):
        self._ids: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        return [self._ids.setdefault(word, len(self._ids)) for word in text.split()]


def token_arrays(questions: Questions, encode: WordIds) -> list[jax.Array]:
    """Returns the arguments of `lcs_lengths` on the device."""

    def padded(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [encode(text)[:_TOKENS] for text in texts]
        tokens = np.zeros((len(rows), _TOKENS), np.int32)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
        return tokens, np.array([len(ids) for ids in rows], np.int32)

    references = padded([original for original, _ in questions])
    tokens, lengths = padded([sample for _, samples in questions for sample in samples])
    shape = (len(questions), -1)
    samples = (tokens.reshape(*shape, _TOKENS), lengths.reshape(shape))
    return [jax.device_put(array) for array in (*samples, *references)]


def _seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the answers per second of each score.")
    parser.add_argument("--data", help="JSON Lines file with columns question and answer")
    parser.add_argument("--answers", type=int, default=8000, help="number of answers")
    parser.add_argument("--samples", type=int, default=20, help="number of samples per question")
    parser.add_argument("--repeats", type=int, default=3, help="number of measurements")
    pairs.add_options(parser, "rouge_score")
    options = parser.parse_args()

    texts = [answer for _, answer in rows(options.data, options.answers)]
    references = [texts[i % len(texts)] for i in range(options.answers)]
    samples = [texts[(7 * i + 1) % len(texts)] for i in range(options.answers)]

    def ours() -> float:
        words._CachedStemmer.stem.cache_clear()
        begin = time.perf_counter()
        rouge.rougeL_recall_many(references, samples)
        return options.answers / (time.perf_counter() - begin)

    def theirs() -> float:
        scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
        begin = time.perf_counter()
        for reference, sample in zip(references, samples, strict=True):
            scorer.score(reference, sample)
        return options.answers / (time.perf_counter() - begin)

    both = [(ours(), theirs() if options.against else None) for _ in range(options.repeats)]
    figures = {"rate": spread([a for a, _ in both]), "unit": "answers per second"}
    count = options.answers // options.samples
    parts = [samples[i * options.samples : (i + 1) * options.samples] for i in range(count)]
    questions = list(zip(references[:count], parts, strict=True))
    figures["scores"] = rates(questions, count * options.samples, options.repeats)
    if options.against:
        figures["rouge_score"] = spread([b for _, b in both])
        figures["ratios"] = [round(a / b, 2) for a, b in both]
    print_record("scoring", options, **figures)


if __name__ == "__main__":
    main()
