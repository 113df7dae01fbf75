"""Rate of the default score: python benchmarks/scoring.py [--data FILE] [--against rouge_score]

Answers of a JSON Lines file (or generated ones), each scored against another one of them, as PMC
scores samples. `--against` scores the same pairs with rouge_score alone. The last line is JSON.
"""

import argparse
import time

import pairs
from data import rows
from record import print_record, spread
from rouge_score import rouge_scorer

from pmc_jax.evaluation import rouge


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers scored a second.")
    parser.add_argument("--data", help="JSON Lines with columns question and answer")
    parser.add_argument("--answers", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    pairs.add_options(parser, "rouge_score")
    options = parser.parse_args()

    texts = [answer for _, answer in rows(options.data, options.answers)]
    references = [texts[i % len(texts)] for i in range(options.answers)]
    samples = [texts[(7 * i + 1) % len(texts)] for i in range(options.answers)]

    def ours() -> float:
        rouge._CachedStemmer.stem.cache_clear()
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
    figures = {"rate": spread([a for a, _ in both]), "unit": "answers a second"}
    if options.against:
        figures["rouge_score"] = spread([b for _, b in both])
        figures["ratios"] = [round(a / b, 2) for a, b in both]
    print_record("scoring", options, **figures)


if __name__ == "__main__":
    main()
