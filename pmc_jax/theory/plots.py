"""Figures of collapse: lottery, mixing, curation beside its bound, and a real run beside theory.

matplotlib is imported where something is drawn.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.theory.collapse import bound

_BLUE, _RED, _GREEN, _GREY = "#3b6fb6", "#c8553d", "#3f8f5f", "#777777"
_SERIES = (_BLUE, _RED, _GREEN, "#8a5fb0")
_DASHED = {"linestyle": (0, (3, 2)), "linewidth": 1.6}
_MEAN, _VAR = "exp_reward_mean", "exp_reward_var"
_E_LABEL, _VAR_LABEL = "E[$e^r$]", "Var[$e^r$]"


def plot_lottery(
    path: str | os.PathLike, alone: np.ndarray, kept: np.ndarray, *, forgotten: int, alpha: float
) -> None:
    """Shares over the rounds of one lottery without retain counts and one with them.

    Args:
        path: the PNG to write.
        alone, kept: float [T + 1, n], from `collapse.lottery`.
        forgotten: categories that have no retain counts, the first ones.
        alpha: retain counts / draws of the second lottery, for the expected share.
    """
    figure, panels = _figure(2, 1, (12, 10))
    titles = (
        "Refits on own samples alone: one colour is left",
        "With retain counts: colours without them die out",
    )
    reds = ["#c8553d", "#d98872", "#e8b8aa"][:forgotten]
    rest = alone.shape[1] - forgotten
    blues = [
        f"#{r:02x}{g:02x}{b:02x}" for r, g, b in _between((59, 111, 182), (205, 220, 240), rest)
    ]
    for axes, title, shares in zip(panels, titles, (alone, kept), strict=True):
        _dress(axes, title, "share")
        axes.grid(visible=False)
        rounds = np.arange(len(shares))
        areas = axes.stackplot(
            rounds, shares.T, colors=reds + blues, edgecolor="white", linewidth=0.4
        )
        axes.set_xlim(0, len(shares) - 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("round", fontsize=13)
    expected = alone[0, :forgotten].sum() * (1 + alpha) ** -np.arange(len(kept), dtype=float)
    (line,) = panels[1].plot(expected, color="black", **_DASHED)
    panels[1].legend(
        [areas[0], areas[forgotten], line],
        ["to be forgotten", "retained", "expected share to be forgotten"],
        fontsize=12,
        loc="upper right",
        framealpha=0.9,
        edgecolor="none",
    )
    figure.savefig(path, format="png")


def plot_mixing(
    path: str | os.PathLike,
    series: Sequence[tuple[float, np.ndarray, np.ndarray]],
    retain: np.ndarray,
) -> None:
    """Distance to the retain distribution: the closed form as lines, the iteration as points.

    Args:
        path: the PNG to write.
        series: retain weight alpha, closed form [T + 1, n] and iteration [T + 1, n] of each.
        retain: p_r, float [n].
    """
    figure, (axes,) = _figure(1, 1, (12, 6))
    _dress(
        axes, "Mixing with retain data: what is not in it decays geometrically", "½ Σ |$p_t - p_r$|"
    )
    for colour, (alpha, closed, iterated) in zip(_SERIES, series, strict=False):
        axes.plot(_distance(closed, retain), color=colour, linewidth=2, label=f"α = {alpha:g}")
        axes.plot(_distance(iterated, retain), "o", color=colour, markersize=5)
    axes.plot([], [], "o", color=_GREY, markersize=5, label="iteration")
    axes.plot([], [], color=_GREY, linewidth=2, label="closed form")
    axes.set_yscale("log")
    axes.set_xlabel("round", fontsize=13)
    axes.legend(frameon=False, fontsize=12, loc="lower left")
    figure.savefig(path, format="png")


def plot_curation(
    path: str | os.PathLike,
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Mapping[str, Any]]]]]],
    exp_reward_max: float,
) -> None:
    """E[e^r] and Var[e^r] under exact curation, and the bound of each round from the one before.

    Args:
        path: the PNG to write.
        panels: title and series of each column; a series is its label and the rows of
            `collapse.beside_bound`.
        exp_reward_max: e^{r*}.
    """
    figure, axes = _figure(2, len(panels), (14, 9))
    for column, (title, series) in enumerate(panels):
        upper, lower = axes[column], axes[len(panels) + column]
        _dress(upper, title, _E_LABEL)
        _dress(lower, "", _VAR_LABEL)
        for colour, (label, rows) in zip(_SERIES, series, strict=False):
            _moments(upper, lower, rows, color=colour, label=label, linewidth=2)
            _dashes(upper, [row["round"] for row in rows], [row["bound"] for row in rows], colour)
        _ceiling(upper, exp_reward_max)
        upper.plot([], [], color=_GREY, label="bound from the round before", **_DASHED)
        upper.legend(frameon=False, fontsize=12, loc="lower right")
        lower.set_ylim(bottom=0)
        lower.set_xlabel("round", fontsize=13)
    figure.savefig(path, format="png")


def plot_probe(
    path: str | os.PathLike,
    rounds: Sequence[Mapping[str, Any]],
    *,
    k: float,
    exp_reward_max: float = math.e,
    theory: Sequence[Mapping[str, Any]] = (),
    steps_a_refit: float = 1.0,
    title: str = "",
) -> None:
    """A real run's moments beside those of exact refits of its first measurement.

    Args:
        path: the PNG to write.
        rounds: of each measurement `step`, `exp_reward_mean`, `exp_reward_var`, and `low` and
            `high` of the mean where they are known; at least one, in order of the steps.
        k: K of the run, for the bound from one measurement to the next.
        exp_reward_max: e^{r*}.
        theory: rows of `probe.exact_refit`, drawn from the first measurement's step on.
        steps_a_refit: steps of the run beside one exact refit.
        title: of the figure.
    """
    figure, (upper, lower) = _figure(2, 1, (12, 10))
    _dress(upper, title or "Expected reward of samples on the forget questions", _E_LABEL)
    _dress(lower, "Its variance within a question", _VAR_LABEL)
    steps = [one["step"] for one in rounds]
    mean, var = ([one[name] for one in rounds] for name in (_MEAN, _VAR))
    if theory:
        at = [steps[0] + steps_a_refit * row["round"] for row in theory]
        look = {
            "color": _GREEN,
            "linewidth": 2,
            "label": "theory: exact refits, within the first samples",
        }
        for axes, name in ((upper, _MEAN), (lower, _VAR)):
            axes.plot(at, [row[name] for row in theory], "s-", markersize=4, **look)
    if all(one.get("low") is not None and one.get("high") is not None for one in rounds):
        low, high = ([one[name] for one in rounds] for name in ("low", "high"))
        upper.fill_between(steps, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="95 %")
    for axes, values in ((upper, mean), (lower, var)):
        axes.plot(steps, values, "o-", color=_BLUE, markersize=5, linewidth=2, label="measured")
    lines = bound(np.array(mean[:-1]), np.array(var[:-1]), k, exp_reward_max)
    _dashes(upper, steps, [None, *lines], _RED, "bound from the measurement before")
    _ceiling(upper, exp_reward_max)
    upper.legend(frameon=False, fontsize=12, loc="lower right")
    lower.legend(frameon=False, fontsize=12, loc="upper right")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("step", fontsize=13)
    figure.savefig(path, format="png")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.2, h_pad=0.15)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _dress(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=15, fontweight="bold")
    axes.set_ylabel(label, fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _moments(upper: Any, lower: Any, rows: Sequence[Mapping[str, Any]], **look: Any) -> None:
    at = [row["round"] for row in rows]
    upper.plot(at, [row[_MEAN] for row in rows], **look)
    lower.plot(at, [row[_VAR] for row in rows], **look)


def _dashes(
    axes: Any, at: Sequence[float], values: Sequence[float | None], colour: str, label: str = ""
) -> None:
    points = [(x, y) for x, y in zip(at, values, strict=True) if y is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, label=label or None, **_DASHED)


def _ceiling(axes: Any, exp_reward_max: float) -> None:
    axes.axhline(
        exp_reward_max,
        color=_GREY,
        linewidth=1.2,
        linestyle=":",
        label="$e^{r*}$, the largest possible",
    )


def _distance(path: np.ndarray, retain: np.ndarray) -> np.ndarray:
    return np.abs(path - retain).sum(1) / 2


def _between(first: Sequence[int], last: Sequence[int], count: int) -> np.ndarray:
    return np.linspace(first, last, count).round().astype(int)
