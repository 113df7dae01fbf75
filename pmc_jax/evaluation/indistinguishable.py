"""Measures whether the answers of a model can be told from those of models that never saw the data.

The measure asks the questions of `forget_paraphrased` that are not forget questions, because no
method trains on these questions as they stand. `two_sample` defines the test and its numbers.

    distance, auc                   Statistics of the model.
    distance.highest, auc.highest   Largest statistic of a never-saw model against the others.
    p                               p-value of the permutation test.
    inside                          1 if neither statistic is above the largest one, otherwise 0.
                                    The number is missing without a model before unlearning, and if
                                    the same test does not tell that model apart (no power).
    questions                       Number of questions.
"""

from collections.abc import Mapping
from typing import Any

from pmc_jax.evaluation.result import NO_BEFORE, Description, Result
from pmc_jax.evaluation.rows import Rows
from pmc_jax.evaluation.two_sample import TwoSample, without_power

_MODELS = "models that never saw the data"
DESCRIPTIONS = {
    "distance": Description(f"distance of the answers from those of {_MODELS}", "reference", ""),
    "distance.highest": Description(f"largest distance among {_MODELS}", "", ""),
    "auc": Description("how well a classifier recognises the answers (AUC)", "reference"),
    "auc.highest": Description(f"largest AUC among {_MODELS}"),
    "p": Description("p-value of the test", "", "p"),
    "inside": Description(f"inside the spread of {_MODELS} (1: yes, 0: no)", "higher", ""),
    "questions": Description("number of questions", "", ""),
}


def summarise(own: Rows, reference: Rows | None, before: Rows | None, *_: Any) -> Result:
    """Returns the numbers that the module docstring defines."""
    test = _test_of(own)
    reason = NO_BEFORE
    if before is not None:
        reason = without_power({"the model before unlearning": _test_of(before)})
    numbers = {
        "distance": test.distance,
        "distance.highest": max(test.distance_spread),
        "auc": test.auc,
        "auc.highest": max(test.auc_spread),
        "p": test.p,
        "inside": reason or float(test.inside),
        "questions": test.questions,
    }
    return Result.of(numbers, DESCRIPTIONS)


def is_told_apart(values: Mapping[str, float]) -> bool:
    """Returns whether the test tells a model apart (see `TwoSample.told_apart`).

    Args:
        values: name -> number, as `summarise` returns them.
    """
    spreads = [(values[f"{name}.highest"],) for name in ("distance", "auc")]
    test = TwoSample(values["distance"], spreads[0], values["auc"], spreads[1], values["p"], 0)
    return test.told_apart


def _test_of(rows: Rows) -> TwoSample:
    return TwoSample(**rows["two_sample"]["test"])
