"""Computes unlearn quality and utility, the two main numbers of the PMC paper, from 0 to 100.

    unlearn quality = 100 (2 - F - FP) / 2          utility = 100 mean(R, W, A)

F and FP are the mean ROUGE-L recalls of greedy answers to the forget questions and to their
paraphrases. R, W and A are the mean recalls on retain questions, world facts and real authors, as
far as these sets are given. The recall compares each answer with the true answer. The numbers are
meaningful only together: a model with empty answers has unlearn quality 100 and utility 0.

Reference: Scholten et al., "Model Collapse Is Not a Bug but a Feature in Machine Unlearning for
LLMs", ICLR 2026, arXiv 2507.04219.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.config.evaluate import UTILITY_SETS
from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, of_split

FORGET_SPLITS = ("forget", "forget_paraphrased")
UTILITY_SPLITS = UTILITY_SETS
SPLITS = FORGET_SPLITS + UTILITY_SPLITS
HEADLINE = ("unlearn_quality", "utility")


def unlearn_quality(forget_recall: float, paraphrased_recall: float) -> float:
    """Computes the unlearn quality 100 (2 - F - FP) / 2.

    Args:
        forget_recall: F, mean ROUGE-L recall on the forget questions, in [0, 1].
        paraphrased_recall: FP, mean ROUGE-L recall on the paraphrased forget questions, in [0, 1].

    Raises:
        ValueError: a recall is outside [0, 1].
    """
    forget = _recall("forget", forget_recall)
    paraphrased = _recall("forget_paraphrased", paraphrased_recall)
    return 100.0 * (2.0 - forget - paraphrased) / 2.0


def utility(recalls: Mapping[str, float]) -> float:
    """Computes the utility, which is 100 times the mean recall over the given utility splits.

    Utilities over different splits are not comparable, so the splits must be reported too, as
    `of_recalls` does.

    Args:
        recalls: split -> mean ROUGE-L recall in [0, 1]. Only `UTILITY_SPLITS` are read.

    Raises:
        ValueError: no utility split is present, or a recall is outside [0, 1].
    """
    present = [_recall(name, recalls[name]) for name in UTILITY_SPLITS if name in recalls]
    if not present:
        raise ValueError(
            "recalls: no utility split is present. Pass the recall of at least one of "
            f"{', '.join(UTILITY_SPLITS)}."
        )
    return 100.0 * sum(present) / len(present)


def of_recalls(recalls: Mapping[str, float]) -> dict[str, Any]:
    """Computes unlearn quality, utility and their parts from the mean recall of each split.

    Args:
        recalls: split name in `SPLITS` -> mean ROUGE-L recall.

    Returns:
        A dictionary for JSON with four keys.
        `unlearn_quality` is a float, or None if a forget split is missing.
        `utility` is a float, or None if all utility splits are missing.
        `utility_splits` lists the utility splits that `utility` averages.
        `splits` maps each name to {"rougeL_recall": mean over the rows}.
    """
    used = [name for name in UTILITY_SPLITS if name in recalls]
    forgets = [recalls[name] for name in FORGET_SPLITS if name in recalls]
    return {
        "unlearn_quality": unlearn_quality(*forgets) if len(forgets) == 2 else None,
        "utility": utility(recalls) if used else None,
        "utility_splits": used,
        "splits": {name: {"rougeL_recall": recall} for name, recall in recalls.items()},
    }


def criterion(rule: str, quality: float, utility: float) -> float:
    """Returns one number from 0 to 100 by which models are compared; a higher number is better.

    Args:
        rule: one of `config.evaluate.BEST_RULES`.
        quality: unlearn quality, 0 to 100.
        utility: utility, 0 to 100.
    """
    if rule == "harmonic_mean":
        return 2 * quality * utility / (quality + utility) if quality + utility else 0.0
    return {
        "unlearn_quality": quality,
        "utility": utility,
        "mean": (quality + utility) / 2,
        "min": min(quality, utility),
    }[rule]


DESCRIPTIONS = {
    "unlearn_quality": Description("unlearn quality", "reference", "points"),
    "utility": Description("utility", "higher", "points"),
    "forget": Description("recall of the true answers, forget questions", "reference"),
    "forget_paraphrased": Description(
        "recall of the true answers, rephrased forget questions", "reference"
    ),
    "retain": Description("recall of the true answers, retain questions", "higher"),
    "world_facts": Description("recall of the true answers, world facts", "higher"),
    "real_authors": Description("recall of the true answers, real authors", "higher"),
}
_NEEDS = {
    "unlearn_quality": "data.evaluate.forget or data.evaluate.forget_paraphrased is not given",
    "utility": f"none of {', '.join(f'data.evaluate.{n}' for n in UTILITY_SPLITS)} is given",
}


def summarise(own: Rows, *_: Any) -> Result:
    """Computes unlearn quality, utility, and the mean ROUGE-L recall of each split.

    The recalls compare greedy answers with the true answers.
    """
    splits = {name: of_split(own["greedy"], name).values() for name in SPLITS}
    recalls = {n: float(np.mean([r["rougeL"] for r in rows])) for n, rows in splits.items() if rows}
    numbers = of_recalls(recalls)
    headlines = {n: why if numbers[n] is None else numbers[n] for n, why in _NEEDS.items()}
    return Result.of(recalls | headlines, DESCRIPTIONS)


def _recall(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"recall of {name!r}: the value must be from 0 to 1, but it is {value!r}. Pass a "
            "share, not a percentage."
        )
    return float(value)
