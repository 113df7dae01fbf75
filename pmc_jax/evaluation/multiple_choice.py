"""Tests by multiple choice whether the true answer is the most or the least likely option.

A method that lowers the likelihood of the true answer makes it recognisable among wrong answers as
the least likely one. The options of a forget question are its wrong answers and its true answer,
paraphrased if the data have a paraphrase. (Wrong answers are derived from the paraphrase. The
original wording would differ in style, and even a model that never saw the data could recognise
it.) The score of an option is its inverse perplexity exp(mean log p), end token included, divided
by the sum over the options.

    most_likely     Share of questions whose true answer has the highest score.
    least_likely    Share of questions whose true answer has the lowest score.
    chance          Mean of 1 / (number of options), which is the result of guessing.
    true_score      Mean score of the true answer.

If the true answer and m - 1 wrong answers share the highest or the lowest score, the question
counts 1 / m.

Reference: Scholten et al., ICLR 2026, arXiv 2507.04219 (least likely answers).
"""

from typing import Any

import numpy as np

from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, likelihood_of, mean_loss, unusable

DESCRIPTIONS = {
    "most_likely": Description("true answer is the most likely option", "reference"),
    "least_likely": Description("true answer is the least likely option", "reference"),
    "chance": Description("result of guessing among the options"),
    "true_score": Description("likelihood of the true answer among the options", "reference"),
}


def scores(losses: np.ndarray) -> np.ndarray:
    """Returns the inverse perplexities of the options, normalised to sum 1.

    Args:
        losses: float [options], mean cross-entropy per token of each option.
    """
    weights = np.exp(losses.min() - losses)
    return weights / weights.sum()


def rank_weights(losses: np.ndarray) -> np.ndarray:
    """Returns the rank of the first option as weights over all ranks, from most to least likely.

    Args:
        losses: float [options], mean cross-entropy per token of each option.

    Returns:
        Weights float [options] with sum 1. The rank of the first option has weight 1; if the first
        and m - 1 other options have the same loss, each of the m ranks has weight 1 / m.
    """
    better, equal = np.sum(losses < losses[0]), np.sum(losses == losses[0])
    weights = np.zeros(len(losses))
    weights[better : better + equal] = 1 / equal
    return weights


def summarise(own: Rows, *_: Any) -> Result:
    """Computes the numbers that the module docstring defines.

    Forget questions without wrong answers are ignored.
    """
    rows = likelihood_of(own, "forget")
    if reason := unusable(rows, "forget"):
        return Result.nothing(DESCRIPTIONS, reason)
    options = [
        np.array([mean_loss(text) for text in (row["paraphrased"] or row["answer"], *row["wrong"])])
        for row in rows.values()
        if row["wrong"]
    ]
    if not options:
        return Result.nothing(DESCRIPTIONS, "data.evaluate.forget has no wrong answers")
    ranks = [rank_weights(losses) for losses in options]
    true_scores = [float(scores(losses)[0]) for losses in options]
    histogram = np.zeros(max(map(len, ranks)))
    for weights in ranks:
        histogram[: len(weights)] += weights
    numbers = {
        "most_likely": np.mean([weights[0] for weights in ranks]),
        "least_likely": np.mean([weights[-1] for weights in ranks]),
        "chance": np.mean([1 / len(losses) for losses in options]),
        "true_score": np.mean(true_scores),
    }
    series = {"true_score": true_scores, "rank": histogram.tolist()}
    return Result.of(numbers, DESCRIPTIONS, series)
