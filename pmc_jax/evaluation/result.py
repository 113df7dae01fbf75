"""What evaluation says of a model: numbers, or why they are missing."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

NO_REFERENCE = "no reference: name a model that never saw the forget rows in evaluate.reference"
NOT_FINITE = "the model's numbers are not finite"


@dataclasses.dataclass(frozen=True)
class Description:
    """How people read a number.

    Attributes:
        text: what it is, a few words.
        better: lower | higher | reference (near that of a model that never saw the data) | "".
        unit: share (0 to 1, shown in percent) | points (0 to 100) | loss | p | "" (as it is).
    """

    text: str
    better: str = ""
    unit: str = "share"


@dataclasses.dataclass
class Result:
    """What one measure says of one model.

    Attributes:
        values: name -> number.
        missing: name -> why it was not computed: "no reference: ...".
        series: name -> what a plot draws, lists of numbers.
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
        """Without numbers that are not finite, such as those of a diverged model.

        Args:
            numbers: name -> number, or why it is missing.
            descriptions: of all names that the measure may return.
            series: name -> what a plot draws.
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
        """All numbers are missing, for the same reason."""
        return Result(missing=dict.fromkeys(descriptions, reason))
