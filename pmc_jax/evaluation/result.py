"""Defines the result of a measure: numbers, or the reasons why numbers are missing."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypedDict

NO_REFERENCE = (
    "no reference model is given; set evaluate.reference (pmc compare: reference.path, Python: "
    "`reference`) to a model that never saw the forget rows"
)
NO_BEFORE = (
    "this evaluation has no model before unlearning; evaluate the folder of a run, or pass "
    "`before` in Python"
)
NO_TEXT = "the text is too short to score; set evaluate.corpus.path to a longer text"
NOT_FINITE = "the model's numbers are not finite; check whether its training diverged"


@dataclasses.dataclass(frozen=True)
class Description:
    """Description of a number in tables and reports.

    Attributes:
        text: short name of the number.
        better: which numbers are better: lower | higher | reference (close to a model that never
            saw the data) | "" (none).
        unit: share (0 to 1, shown in percent) | points (0 to 100) | p | "" (no unit).
    """

    text: str
    better: str = ""
    unit: str = "share"


@dataclasses.dataclass
class Result:
    """Result of one measure for one model.

    Attributes:
        values: name -> number.
        missing: name -> reason why the number was not computed.
        series: name -> list of the numbers or the row ids of a figure.
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    series: dict[str, Any] = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(
        numbers: Mapping[str, float | str],
        descriptions: Mapping[str, Description],
        series: Mapping[str, list[float]] | None = None,
    ) -> "Result":
        """Builds a result in which non-finite numbers, and series with such numbers, are missing.

        Args:
            numbers: name -> number, or the reason why the number is missing.
            descriptions: descriptions of all numbers that the measure may return.
            series: name -> list of numbers for a figure.
        """
        assert set(numbers) <= set(descriptions), "a number has no description"
        result = Result()
        for name, number in numbers.items():
            if isinstance(number, str):
                result.missing[name] = number
            elif math.isfinite(number):
                result.values[name] = float(number)
            else:
                result.missing[name] = NOT_FINITE
        result.series = {n: s for n, s in (series or {}).items() if all(map(math.isfinite, s))}
        return result

    @staticmethod
    def nothing(descriptions: Mapping[str, Description], reason: str) -> "Result":
        """Builds a result in which all numbers are missing for the same reason."""
        return Result(missing=dict.fromkeys(descriptions, reason))


class SplitNumbers(TypedDict):
    """Numbers of one evaluation set; `rougeL_recall` is the mean over its rows, from 0 to 1."""

    rougeL_recall: float


class Numbers(TypedDict):
    """Unlearn quality, utility and the recalls that both are computed from.

    Attributes:
        unlearn_quality: 0 to 100, or None without the sets `forget` and `forget_paraphrased`.
        utility: 0 to 100, or None without the sets that it averages.
        utility_splits: names of the sets that `utility` averages.
        splits: numbers of each evaluation set by its name.

    Example:
        >>> numbers: pmc.Numbers = pmc.evaluate(lm, {"retain": retain})
        >>> numbers["utility_splits"], numbers["unlearn_quality"]
        (['retain'], None)
    """

    unlearn_quality: float | None
    utility: float | None
    utility_splits: list[str]
    splits: dict[str, SplitNumbers]


class Evaluation(Numbers):
    """Result of `evaluate`: the numbers of the model, and all numbers of all models.

    Attributes:
        words: name of the rule by which ROUGE divides texts into words (ascii | unicode).
        evaluation: contents of `evaluation.json` (see docs/reference/evaluation.md): the measures
            in the settings for each model that was given, as JSON values.

    Example:
        >>> numbers = pmc.evaluate(lm, {"retain": retain})
        >>> list(numbers["evaluation"]["measures"])
        ['quality']
    """

    words: str
    evaluation: dict[str, Any]
