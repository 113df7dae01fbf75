"""The two headline numbers of the PMC paper: unlearn quality and utility, both 0 to 100.

With F, FP the mean ROUGE-L recall of greedy answers to the forget questions and to their
paraphrases against the true answers, and R, W, A the same on retain questions, world facts and
real authors:

    unlearn quality = 100 (2 - F - FP) / 2          utility = 100 (R + W + A) / 3

Only both together are meaningful: a model with empty answers has unlearn quality 100 and utility 0.

Reference: Scholten et al., "Model Collapse Is Not a Bug but a Feature in Machine Unlearning for
LLMs", ICLR 2026, arXiv 2507.04219.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, of_split

FORGET_SPLITS = ("forget", "forget_paraphrased")
UTILITY_SPLITS = ("retain", "world_facts", "real_authors")
SPLITS = FORGET_SPLITS + UTILITY_SPLITS
HEADLINE = ("unlearn_quality", "utility")


def unlearn_quality(forget_recall: float, paraphrased_recall: float) -> float:
    """100 (2 - F - FP) / 2.

    Args:
        forget_recall: F, mean ROUGE-L recall on the forget questions, in [0, 1].
        paraphrased_recall: FP, the same on the paraphrased forget questions, in [0, 1].

    Raises:
        ValueError: a recall outside [0, 1].
    """
    forget = _recall("forget", forget_recall)
    paraphrased = _recall("forget_paraphrased", paraphrased_recall)
    return 100.0 * (2.0 - forget - paraphrased) / 2.0


def utility(recalls: Mapping[str, float]) -> float:
    """100 × the mean recall over those of `UTILITY_SPLITS` that are present.

    Numbers over different splits are not comparable, so report the splits too, as `of_recalls`
    does. The function ignores keys other than utility splits.

    Raises:
        ValueError: no utility split is present, or a recall is outside [0, 1].
    """
    present = [_recall(name, recalls[name]) for name in UTILITY_SPLITS if name in recalls]
    if not present:
        raise ValueError(f"utility needs at least one of the splits {', '.join(UTILITY_SPLITS)}")
    return 100.0 * sum(present) / len(present)


def of_recalls(recalls: Mapping[str, float]) -> dict[str, Any]:
    """Both numbers and their parts, from the mean recall of each split.

    Args:
        recalls: split name (of `SPLITS`) -> mean ROUGE-L recall.

    Returns:
        A JSON-able dict:
        `unlearn_quality`: float, or None unless both forget splits are present;
        `utility`: float, or None when no utility split is present;
        `utility_splits`: names of the utility splits that `utility` averages;
        `splits`: name -> {"rougeL_recall": mean over the rows}.
    """
    used = [name for name in UTILITY_SPLITS if name in recalls]
    forgets = [recalls[name] for name in FORGET_SPLITS if name in recalls]
    return {
        "unlearn_quality": unlearn_quality(*forgets) if len(forgets) == 2 else None,
        "utility": utility(recalls) if used else None,
        "utility_splits": used,
        "splits": {name: {"rougeL_recall": recall} for name, recall in recalls.items()},
    }


DESCRIPTIONS = {
    "unlearn_quality": Description("unlearn quality", "reference", "points"),
    "utility": Description("utility", "higher", "points"),
    "forget": Description("forget questions: words of the true answers given", "reference"),
    "forget_paraphrased": Description("rephrased forget questions: the same", "reference"),
    "retain": Description("retain questions: words of the true answers given", "higher"),
    "world_facts": Description("world facts: the same", "higher"),
    "real_authors": Description("real authors: the same", "higher"),
}
_NEEDS = {
    "unlearn_quality": "needs data.evaluate.forget and data.evaluate.forget_paraphrased",
    "utility": f"needs one of {', '.join(f'data.evaluate.{n}' for n in UTILITY_SPLITS)}",
}


def summarise(own: Rows, *_: Any) -> Result:
    """Mean ROUGE-L recall of the greedy answers to each split, unlearn quality and utility."""
    splits = {name: of_split(own["greedy"], name).values() for name in SPLITS}
    recalls = {n: float(np.mean([r["rougeL"] for r in rows])) for n, rows in splits.items() if rows}
    numbers = of_recalls(recalls)
    headlines = {n: why if numbers[n] is None else numbers[n] for n, why in _NEEDS.items()}
    return Result.of(recalls | headlines, DESCRIPTIONS)


def _recall(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"the recall of {name!r} is {value!r}; it must be between 0 and 1")
    return float(value)
