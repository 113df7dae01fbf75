"""Draws figures for `theory.py`: lottery, mixing, curation with its bound, and a real run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pmc_jax.artifacts.figure import Band, Figure, Level, Line, Panel
from pmc_jax.theory.dynamics import bound

Rows = Sequence[Mapping[str, Any]]
_COLOURS = ("run1", "run5", "run4", "run3")
_MEAN, _VAR = "exp_reward_mean", "exp_reward_var"
_E_LABEL, _VAR_LABEL = "E[$e^r$]", "Var[$e^r$]"


def plot_lottery(
    path: str | os.PathLike, alone: np.ndarray, mixed: np.ndarray, *, forgotten: int, alpha: float
) -> None:
    """Plots the shares per round of two lotteries, one without and one with retain counts.

    Args:
        path: PNG file to write.
        alone, mixed: float [T + 1, n], shares from `dynamics.lottery` without and with retain
            counts.
        forgotten: number of categories without retain counts. These are the first categories.
        alpha: retain counts / draws of the second lottery, from which the expected share is
            computed.
    """
    expected = alone[0, :forgotten].sum() * (1 + alpha) ** -np.arange(len(mixed), dtype=float)
    rounds = range(len(mixed))
    line = Line("expected share to be forgotten", rounds, expected, "ink", dash="dashed")
    titles = (
        "Refits on own samples alone: one category remains",
        "With retain counts: categories without them vanish",
    )
    panels = [
        Panel([*_stack(distributions, forgotten), *lines], "round", "share", title, bounds=(0, 1))
        for title, distributions, lines in zip(titles, (alone, mixed), ([], [line]), strict=True)
    ]
    _write(path, panels, (864, 720))


def _stack(path: np.ndarray, forgotten: int) -> list[Band]:
    """Returns stacked areas, red for categories to be forgotten and blue for all others."""
    edges = np.concatenate([np.zeros((len(path), 1)), path.cumsum(1)], axis=1)  # [T + 1, n + 1]
    groups = (("to be forgotten", "run5", forgotten),)
    groups += (("retained", "run1", path.shape[1] - forgotten),)
    bands: list[Band] = []
    for label, colour, count in groups:
        for i, alpha in enumerate(np.linspace(0.85, 0.3, count)):
            low, high = edges[:, len(bands)], edges[:, len(bands) + 1]
            bands.append(Band(range(len(path)), low, high, colour, alpha, "" if i else label))
    return bands


def plot_mixing(
    path: str | os.PathLike,
    series: Sequence[tuple[float, np.ndarray, np.ndarray]],
    retain: np.ndarray,
) -> None:
    """Plots the distance to the retain distribution, in closed form (lines) and iterated (points).

    Args:
        path: PNG file to write.
        series: for each line, the retain weight alpha, the closed form, float [T + 1, n], and the
            iteration, float [T + 1, n].
        retain: float [n], the retain distribution p_r.
    """
    layers = []
    for colour, (alpha, *paths) in zip(_COLOURS, series, strict=False):
        closed, iterated = (np.abs(points - retain).sum(1) / 2 for points in paths)
        layers.append(Line(f"α = {alpha:g}", range(len(closed)), closed, colour))
        points = {"dash": "none", "marker": "o"}
        layers.append(Line("", range(len(iterated)), iterated, colour, **points))
    layers.append(Line("iteration", [], [], "muted", dash="none", marker="o"))
    layers.append(Line("closed form", [], [], "muted"))
    title = "Mixing with retain data: other categories decay geometrically"
    _write(path, [Panel(layers, "round", "½ Σ |$p_t - p_r$|", title, log=True)], (864, 432))


def plot_curation(
    path: str | os.PathLike,
    columns: Sequence[tuple[str, Sequence[tuple[str, Rows]]]],
    exp_reward_max: float,
) -> None:
    """Plots E[e^r], its bound from the previous round, and Var[e^r] under exact curation.

    Args:
        path: PNG file to write.
        columns: title and series of each column. A series is a label and the rows of
            `dynamics.beside_bound`.
        exp_reward_max: e^{r*}, the largest possible value of e^r.
    """
    means, variances = [], []
    for title, series in columns:
        upper: list[Any] = []
        lower: list[Any] = []
        for colour, (label, rows) in zip(_COLOURS, series, strict=False):
            rounds = [row["round"] for row in rows]
            upper.append(Line(label, rounds, [row[_MEAN] for row in rows], colour))
            lower.append(Line("", rounds, [row[_VAR] for row in rows], colour))
            upper.append(_dashed(rounds[1:], [row["bound"] for row in rows[1:]], colour, ""))
        upper.append(_dashed([], [], "muted", "bound from the previous round"))
        upper.append(_largest(exp_reward_max))
        means.append(Panel(upper, "round", _E_LABEL, title, bounds=(None, None)))
        variances.append(Panel(lower, "round", _VAR_LABEL))
    _write(path, [*means, *variances], (1008, 648), columns=len(columns), share_x=True)


def plot_run(
    path: str | os.PathLike,
    measured: Rows,
    *,
    k: float,
    exp_reward_max: float,
    exact: Rows = (),
    steps_per_refit: float = 1.0,
) -> None:
    """Plots the moments of a real run and of exact refits of its first measurement.

    Args:
        path: PNG file to write.
        measured: measurements in the order of the steps, at least one. Each has `step`,
            `exp_reward_mean`, `exp_reward_var`, `low` and `high`.
        k: K of the run, for the bound from one measurement to the next.
        exp_reward_max: e^{r*}, the largest possible value of e^r.
        exact: rows of `reward_moments.exact_refit`, plotted from the step of the first measurement.
        steps_per_refit: steps of the run that correspond to one exact refit.
    """
    steps = [one["step"] for one in measured]
    mean, var, low, high = ([one[key] for one in measured] for key in (_MEAN, _VAR, "low", "high"))
    upper: list[Any] = [Band(steps, low, high, "run1", label="95 %")]
    lower: list[Any] = []
    for layers, values, name in ((upper, mean, _MEAN), (lower, var, _VAR)):
        if exact:
            x = [steps[0] + steps_per_refit * row["round"] for row in exact]
            label = "theory: exact refits, restricted to the first samples"
            layers.append(Line(label, x, [row[name] for row in exact], "run4", marker="s"))
        layers.append(Line("measured", steps, values, "run1", marker="o"))
    lines = bound(np.array(mean[:-1]), np.array(var[:-1]), k, exp_reward_max)
    upper.append(_dashed(steps[1:], lines, "run5", "bound from the previous measurement"))
    upper.append(_largest(exp_reward_max))
    panels = [
        Panel(
            upper,
            "step",
            _E_LABEL,
            "Expected reward of samples on the forget questions",
            bounds=(None, None),
        ),
        Panel(lower, "step", _VAR_LABEL, "Its variance within a question"),
    ]
    _write(path, panels, (864, 720), share_x=True)


def _dashed(x: Sequence[float], y: Sequence[float], colour: str, label: str) -> Line:
    return Line(label, x, y, colour, dash="dashed", width=1.6)


def _largest(exp_reward_max: float) -> Level:
    return Level(exp_reward_max, "muted", dash="dotted", label="$e^{r*}$, the largest possible")


def _write(
    path: str | os.PathLike, panels: Sequence[Panel], size: tuple[int, int], **layout: Any
) -> None:
    Path(path).write_bytes(Figure("theory", "", "", panels, size=size, **layout).png(dpi=100))
