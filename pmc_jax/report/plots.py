"""Draws figures over the steps of unlearning, each with a sentence that states the numbers.

In a report of several runs, the lines of up to twelve runs differ in colour or dashes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pmc_jax.artifacts.figure import RUN_COLOURS, Figure, Level, Line, Panel, spread_band
from pmc_jax.report.methods import method, samples
from pmc_jax.report.narrative import REFERENCE

Run = Mapping[str, Any]
Points = Sequence[tuple[float, float]]
_DASHES = ("solid", "dashed", "mixed", "dotted")


def removed(runs: Sequence[Run]) -> list[Figure]:
    """Draws the figures that show how much the model has forgotten."""
    over = "; a model above this line has forgotten more than was requested"
    quality = _over_steps(runs, "unlearn_quality", "Unlearn quality", over)
    loss = _loss(
        runs,
        "collapse_loss",
        "Loss on its own new answers",
        "How unsure the model is of its own new answers, on which it is trained",
    )
    return existing(quality, _score(runs), _without_replacement(runs), loss)


def cost(runs: Sequence[Run]) -> list[Figure]:
    """Draws the utility and the retain loss, which show how much other knowledge is lost."""
    loss = _loss(
        runs,
        "retain_loss",
        "Loss on the answers to keep",
        "How unsure the model is of the answers that it must keep",
    )
    return existing(_over_steps(runs, "utility", "Utility"), loss)


def existing(*figures: Figure | None) -> list[Figure]:
    """Returns the figures that are not None."""
    return [figure for figure in figures if figure is not None]


def run_style(runs: Sequence[Run], index: int, label: str = "unlearned model") -> dict[str, str]:
    """Returns the style of a run's line.

    The label is `label` if there is only one run, or else the name of the run.
    """
    if len(runs) == 1:
        return {"label": label, "colour": "after", "dash": "solid"}
    colour = f"run{index % RUN_COLOURS + 1}"
    return {"label": runs[index]["name"], "colour": colour, "dash": _DASHES[index % len(_DASHES)]}


def line(points: Points, **style: Any) -> Line:
    """Returns a line through (x, y) points."""
    return Line(x=[x for x, _ in points], y=[y for _, y in points], **style)


def _lines(runs: Sequence[Run], points: Sequence[Points], label: str, **style: Any) -> list[Line]:
    return [
        line(of_run, **(run_style(runs, i, label) | style))
        for i, of_run in enumerate(points)
        if of_run
    ]


def _by_run(runs: Sequence[Run], texts: Iterable[str]) -> str:
    """Joins the texts of several runs, each after the name of the run; one run needs no name."""
    named = [(run["name"], text) for run, text in zip(runs, texts, strict=True)]
    if len(runs) == 1:
        return named[0][1]
    return "; ".join(f"{name}: {text}" for name, text in named)


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> Points:
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None]


def _from_to(points: Points, form: str) -> str:
    if len(points) == 1:
        return f"{points[0][1]:{form}} (measured once)"
    return f"from {points[0][1]:{form}} to {points[-1][1]:{form}}"


def _over_steps(runs: Sequence[Run], name: str, title: str, reading: str = "") -> Figure | None:
    """Draws unlearn quality or utility before, during and after unlearning."""
    points = []
    for run in runs:
        last = run["rounds"][-1]["step"] if run["rounds"] else 0
        ends = [{"step": 0} | run["quality"]["before"], {"step": last} | run["quality"]["after"]]
        points.append(_points([ends[0], *run["rounds"], ends[1]], name))
    if not all(points):
        return None
    references = {(run["quality"]["reference"] or {}).get(name) for run in runs} - {None}
    text = f"{title}: {_by_run(runs, (_from_to(one, '.1f') for one in points))}"
    sentence, caption = f"{text}.", f"{text}."
    if references:
        values = " or ".join(f"{value:.1f}" for value in sorted(references))
        sentence = f"{text}; {REFERENCE} has {values}."
        caption = f"{text}. The dashed line, {values}, is {REFERENCE}{reading}."
    levels = [
        Level(value, "reference", label="" if i else "never saw the data")
        for i, value in enumerate(references)
    ]
    layers = [*_lines(runs, points, title, marker="o"), *levels]
    panel = Panel(layers, "step", title.lower(), bounds=(0, 102))
    return Figure(name, f"{title} over the steps", caption, [panel], alt=sentence)


def _score(runs: Sequence[Run]) -> Figure | None:
    """Draws how similar the sampled answers are to the original answers.

    The figure shows the mean and the standard deviation for each round.
    """
    all_samples = [_points(run["rounds"], "score_mean") for run in runs]
    lines = _lines(runs, all_samples, "all samples", marker="o")
    if not lines:
        return None
    spreads = [
        [row["score_std"] or 0.0 for row in run["rounds"] if row.get("score_mean") is not None]
        for run in runs
    ]
    bands = [
        spread_band(one.x, one.y, spread, one.colour)
        for one, spread in zip(lines, filter(None, spreads), strict=True)
    ]
    # With another `pmc.answer`, the score of a selected sample is not a similarity.
    if len(runs) == 1 and runs[0]["settings"]["pmc"]["answer"] == "own":
        chosen = [_points(runs[0]["rounds"], "sampled_score")]
        style = {"colour": "before", "dash": "dotted", "marker": "o"}
        lines += _lines(runs, chosen, "selected samples", **style)
    ends = [_from_to(mean, ".2f") if mean else "not sampled" for mean in all_samples]
    text = (
        "Similarity of the sampled answers to the original answers, from 0 (nothing is left) to 1 "
        f"(unchanged), mean over all samples of a round: {_by_run(runs, ends)}."
    )
    caption = f"{text} The band is the standard deviation. Rounds without sampling have no point."
    panel = Panel([*bands, *lines], "step", "similarity, 0 to 1")
    title = "Similarity of new answers to the original ones"
    return Figure("score", title, caption, [panel], alt=text)


def _without_replacement(runs: Sequence[Run]) -> Figure | None:
    if not all(run["rounds"] and samples(run) for run in runs):
        return None
    points = [_points(run["rounds"], "unreplaced") for run in runs]
    if not all(points):
        return None
    texts = []
    for of_run in points:
        first = next((step for step, count in of_run if not count), None)
        end = f"{of_run[-1][1]} remain" if first is None else f"none remained after step {first}"
        most = max(count for _, count in of_run)
        texts.append(f"at most {most}, of which {end}" if most else "none in any round")
    text = (
        "Questions without a new answer that is as good as possible, so that sampling still looks "
        f"for one: {_by_run(runs, texts)}."
    )
    lines = _lines(runs, points, "questions without such an answer")
    panel = Panel(lines, "step", "questions")
    return Figure("unreplaced", "Questions that are still sampled", text, [panel])


def _loss(runs: Sequence[Run], key: str, title: str, what: str) -> Figure | None:
    points = [_points(run["steps"], key) for run in runs]
    if not all(points) or any(method(run) == "rmu" for run in runs):  # no cross-entropy
        return None
    texts = [f"{_from_to(one, '.2f')}, highest {max(y for _, y in one):.2f}" for one in points]
    text = (
        f"{what}: {_by_run(runs, texts)} (cross-entropy per token; a lower value is more certain)."
    )
    panel = Panel(_lines(runs, points, "loss"), "step", "loss per token")
    return Figure(key, title, text, [panel])
