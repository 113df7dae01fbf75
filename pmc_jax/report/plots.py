"""Drawings of what happened over the steps of unlearning, each with a sentence that reads it.

Of several runs each has a line in a colour of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pmc_jax.report import svg
from pmc_jax.report.methods import samples
from pmc_jax.report.narrative import REFERENCE
from pmc_jax.report.svg import Drawing, Line, curves

Run = Mapping[str, Any]
_RUN_DASHES = ("solid", "dashed", "mixed", "dotted")


@dataclass(frozen=True)
class Plot:
    """A drawing as the page shows it.

    Attributes:
        id: of its figure.
        title: what is drawn.
        drawing: of it.
        reading: one sentence that reads it.
    """

    id: str
    title: str
    drawing: Drawing
    reading: str

    @property
    def svg(self) -> str:
        """The drawing as it stands in the page."""
        return self.drawing.svg()


def removed(runs: Sequence[Run]) -> list[Plot]:
    """What went, over the steps of unlearning."""
    return drawn(runs, _quality, _score, _unresolved, _collapse_loss)


def cost(runs: Sequence[Run]) -> list[Plot]:
    """What it did to what is to be kept."""
    return drawn(runs, _utility, _retain_loss)


def drawn(runs: Sequence[Run], *draw: Callable[[Sequence[Run]], Plot | None]) -> list[Plot]:
    """The drawings of which there are data."""
    return [plot for one in draw if (plot := one(runs)) is not None]


def look_of(runs: Sequence[Run], index: int, label: str = "after") -> dict[str, str]:
    """Label, colour and dash of a run's line."""
    if len(runs) == 1:
        return {"label": label, "colour": "after", "dash": "solid"}
    colour = f"run{index % svg.RUNS + 1}"
    dash = _RUN_DASHES[index % len(_RUN_DASHES)]
    return {"label": runs[index]["name"], "colour": colour, "dash": dash}


def _each(runs: Sequence[Run], say: Callable[[Run], str]) -> str:
    """What is said of the only run, or of each by name."""
    if len(runs) == 1:
        return say(runs[0])
    return "; ".join(f"{run['name']}: {say(run)}" for run in runs)


# Over the steps


def _measured(run: Run, name: str) -> list[tuple[int, float]]:
    """(step, value) of unlearn quality or utility: before, on the way, after."""
    quality, rounds = run["quality"], run["rounds"]
    way = [(one["step"], one[name]) for one in rounds if one.get(name) is not None]
    last = rounds[-1]["step"] if rounds else 0
    points = [(0, quality["before"][name]), *way, (last, quality["after"][name])]
    return [(step, value) for step, value in points if value is not None]


def _over_steps(runs: Sequence[Run], name: str, title: str, reading: str) -> Plot | None:
    points = [_measured(run, name) for run in runs]
    if not all(points):
        return None
    lines = [
        Line(
            x=[s for s, _ in found], y=[v for _, v in found], points=True, **look_of(runs, i, title)
        )
        for i, found in enumerate(points)
    ]
    known = {(run["quality"]["reference"] or {}).get(name) for run in runs} - {None}
    ends = _each(runs, lambda run: _from_to([v for _, v in _measured(run, name)], ".1f"))
    level = f"; the dashed line, {_all(known)}, is {REFERENCE}" if known else ""
    more = reading if known else ""
    text = f"{title}: {ends}{level}{more}."
    image = curves(
        f"plot-{name}",
        [*lines, *([Line("never saw the data", [], [], "reference", "dashed")] if known else [])],
        x="step",
        y=title.lower(),
        alt=text,
        bounds=(0, 102),
        levels=[(value, "reference") for value in known],
    )
    return Plot(f"figure-{name}", f"{title} over the steps", image, text)


def _all(known: set[float]) -> str:
    return " or ".join(f"{value:.1f}" for value in sorted(known))


def _from_to(found: Sequence[float], form: str) -> str:
    return f"from {found[0]:{form}} to {found[-1]:{form}}"


def _quality(runs: Sequence[Run]) -> Plot | None:
    over = ", and what ends above it has forgotten more than was asked for"
    return _over_steps(runs, "unlearn_quality", "Unlearn quality", over)


def _utility(runs: Sequence[Run]) -> Plot | None:
    return _over_steps(runs, "utility", "Utility", "")


def _score(runs: Sequence[Run]) -> Plot | None:
    """Likeness of what is sampled to the original answers, its mean and spread a round."""
    lines = []
    for i, run in enumerate(runs):
        sampled = [one for one in run["rounds"] if one.get("score_mean") is not None]
        if sampled:
            spread = [one["score_std"] or 0.0 for one in sampled]
            means = [one["score_mean"] for one in sampled]
            steps = [one["step"] for one in sampled]
            lines.append(
                Line(
                    x=steps, y=means, spread=spread, points=True, **look_of(runs, i, "all samples")
                )
            )
    whole = bool(lines)
    if not lines or len(runs) == 1:
        for i, run in enumerate(runs):
            sampled = [one for one in run["rounds"] if one.get("sampled_score") is not None]
            if sampled:
                look = look_of(runs, i, "the chosen ones")
                look |= {"colour": "before", "dash": "dotted"} if whole else {}
                steps = [one["step"] for one in sampled]
                lines.append(
                    Line(x=steps, y=[one["sampled_score"] for one in sampled], points=True, **look)
                )
    if not lines:
        return None
    what = "mean over all samples of a round, and their spread as a band" if whole else "mean"
    text = (
        "How much of its own first answer the model still says when it is asked with chance "
        f"({what}): {_each(runs, _score_ends)}. No point is drawn where nothing was left to ask."
    )
    image = curves("plot-score", lines, x="step", y="likeness, 0 to 1", alt=text)
    return Plot("figure-score", "Likeness of new answers to the first ones", image, text)


def _score_ends(run: Run) -> str:
    for name in ("score_mean", "sampled_score"):
        found = [one[name] for one in run["rounds"] if one.get(name) is not None]
        if found:
            return _from_to(found, ".2f")
    return "not sampled"


def _unresolved(runs: Sequence[Run]) -> Plot | None:
    def say(run: Run) -> str:
        left = [one["without_replacement"] for one in run["rounds"]]
        first = next((one["step"] for one in run["rounds"] if not one["without_replacement"]), None)
        gone = f"none was left after step {first}" if first is not None else f"{left[-1]} are left"
        return f"from {max(left)} at most, {gone}"

    if not all(run["rounds"] and samples(run) for run in runs):
        return None
    lines = [
        Line(
            x=[one["step"] for one in run["rounds"]],
            y=[one["without_replacement"] for one in run["rounds"]],
            **look_of(runs, i, "unresolved questions"),
        )
        for i, run in enumerate(runs)
    ]
    text = (
        "Questions to which the model has not yet given an answer unlike its first one: "
        f"{_each(runs, say)}."
    )
    image = curves("plot-unresolved", lines, x="step", y="questions", alt=text)
    return Plot("figure-unresolved", "Unresolved questions", image, text)


def _loss(runs: Sequence[Run], key: str, title: str, what: str) -> Plot | None:
    points = [[(row["step"], row[key]) for row in run["steps"] if key in row] for run in runs]
    if not all(points):
        return None
    lines = [
        Line(x=[s for s, _ in found], y=[v for _, v in found], **look_of(runs, i, "loss"))
        for i, found in enumerate(points)
    ]
    by_name = dict(zip((run["name"] for run in runs), points, strict=True))

    def say(run: Run) -> str:
        found = [value for _, value in by_name[run["name"]]]
        return f"{_from_to(found, '.2f')}, {max(found):.2f} at worst"

    text = f"{what}: {_each(runs, say)} (nats a word piece; lower is surer)."
    image = curves(f"plot-{key}", lines, x="step", y="nats a token", alt=text)
    return Plot(f"figure-{key}", title, image, text)


def _retain_loss(runs: Sequence[Run]) -> Plot | None:
    what = "How unsure the model is of the answers that it must keep"
    return _loss(runs, "retain_loss", "Loss on what is to be kept", what)


def _collapse_loss(runs: Sequence[Run]) -> Plot | None:
    what = "How unsure it is of its own new answers, which it is trained to give"
    return _loss(runs, "collapse_loss", "Loss on its own new answers", what)
