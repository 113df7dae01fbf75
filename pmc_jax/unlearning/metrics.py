"""Computes the metrics of a sampling round for the log and the list of rounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.scoring.rouge import rougeL_recall_many
from pmc_jax.scoring.words import RULES
from pmc_jax.unlearning.pmc import Selection


def score_moments(selections: Sequence[Selection]) -> dict[str, Any]:
    """Computes statistics of the scores in one round.

    Returns:
        A dictionary with these entries. All scores are None if there are no selections.

            sampled_score: mean score of the selections.
            score_mean, score_std: mean and standard deviation of the scores of all samples.
            sampled_questions: number of selections.
    """
    names = ("sampled_score", "score_mean", "score_std")
    if not selections:
        return {**dict.fromkeys(names), "sampled_questions": 0}
    scores = np.concatenate([selection.scores for selection in selections])
    selected = math.fsum(selection.score for selection in selections) / len(selections)
    moments = (selected, float(scores.mean()), float(scores.std()))
    return {**dict(zip(names, moments, strict=True)), "sampled_questions": len(selections)}


def overlap(
    originals: Mapping[str, str],
    replacements: Mapping[str, tuple[str | None, float]],
    words: str = "ascii",
) -> float:
    """Computes the mean ROUGE-L recall of the original answers in the replacement answers.

    Replacement answers are samples of the model, so early replacement answers may still contain
    parts of the original answers. The metric is ROUGE-L even if another score selects samples.
    Original answers without a word are ignored.

    Args:
        originals: original answer by question id.
        replacements: replacement answer and score by question id. The answer may be None.
        words: name of the rule in `words.RULES` by which ROUGE divides texts into words.

    Returns:
        The mean recall, or nan if there are no answers to compare.
    """
    rule = RULES[words]
    pairs = [(originals[i], text) for i, (text, _) in replacements.items() if text is not None]
    pairs = [(original, text) for original, text in pairs if rule(original)]
    if not pairs:
        return float("nan")
    return float(rougeL_recall_many(*zip(*pairs, strict=True), rule).mean())
