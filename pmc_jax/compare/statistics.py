"""Computes spreads over seeds and the Pareto front."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Spread = dict[str, Any]


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns `mean`, `std` and `n` of the values that are not None, or None if all are None.

    `std` is the sample standard deviation sqrt(sum (x - mean)^2 / (n - 1)), or None if n = 1.
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "std": std, "n": len(numbers)}


def spreads(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    """Returns the spread over all rows for each name that has a number in at least one row."""
    names = dict.fromkeys(name for row in rows for name in row)
    by_name = {name: spread(row.get(name) for row in rows) for name in names}
    return {name: one for name, one in by_name.items() if one is not None}


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Returns the names of the points on the Pareto front, where larger numbers are better.

    The names are in ascending order of the first number.
    """
    best = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return sorted(best, key=lambda name: points[name])
