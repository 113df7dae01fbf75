"""Numbers of a round of sampling, for the log and the list of rounds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.scoring.rouge import rougeL_recall_many
from pmc_jax.unlearning.pmc import Selection


def score_moments(selections: Sequence[Selection]) -> dict[str, Any]:
    """Numbers of a round: mean score of the selected samples, and mean and standard deviation of
    the scores of all samples, whose limits the theory gives.
    """
    names = ("sampled_score", "score_mean", "score_std")
    if not selections:
        return {**dict.fromkeys(names), "sampled_questions": 0}
    scores = np.concatenate([selection.scores for selection in selections])
    selected = math.fsum(selection.score for selection in selections) / len(selections)
    moments = (selected, float(scores.mean()), float(scores.std()))
    return {**dict(zip(names, moments, strict=True)), "sampled_questions": len(selections)}


def overlap(
    originals: Mapping[str, str], replacements: Mapping[str, tuple[str | None, float]]
) -> float:
    """Mean ROUGE-L recall of the original answers in the answers that are trained on; nan if there
    are none.

    The honest side of "no forget answer is a target": before the model has collapsed, its own
    samples may still hold what it knew. Always ROUGE-L, whatever score selects.
    """
    pairs = [(originals[i], text) for i, (text, _) in replacements.items() if text is not None]
    if not pairs:
        return float("nan")
    return float(rougeL_recall_many(*zip(*pairs, strict=True)).mean())
