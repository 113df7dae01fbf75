"""Drawings of distributions: over questions, options and words, each with a sentence on it.

Of one run the models before, after and of the reference are drawn; of several runs, each as it
ended, and one reference.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.report.plots import Plot, Run, drawn, look_of
from pmc_jax.report.svg import Line, curves
from pmc_jax.report.words import mean, percent, series

_MODELS = (
    ("before", "before", "dotted"),
    ("after", "after", "solid"),
    ("reference", "never saw the data", "dashed"),
)


def of_measure(runs: Sequence[Run], measure: str) -> list[Plot]:
    """Those of one measure."""
    draw = {
        "sampling": (_sampling,),
        "prefill": (_prefill,),
        "choices": (_ranks, _truth),
        "side_effects": (_side_effects,),
    }
    return drawn(runs, *draw.get(measure, ()))


def _models(runs: Sequence[Run], measure: str, name: str) -> list[tuple[Any, dict[str, str]]]:
    """(series, look of its line): of each model of the only run, or of each run and a reference."""
    if len(runs) == 1:
        found = [
            (series(runs[0], measure, model, name), {"label": label, "colour": model, "dash": dash})
            for model, label, dash in _MODELS
        ]
    else:
        found = [
            (series(run, measure, "after", name), look_of(runs, i)) for i, run in enumerate(runs)
        ]
        known = [s for run in runs if (s := series(run, measure, "reference", name)) is not None]
        look = {"label": "never saw the data", "colour": "reference", "dash": "dashed"}
        found += [(known[0], look)] if known else []
    return [(data, look) for data, look in found if data is not None]


def _of_models(
    found: Sequence[tuple[Any, dict[str, str]]], say: Callable[[Any], str], join: str = "; "
) -> str:
    return join.join(f"{look['label']} {say(data)}" for data, look in found)


def _worst(runs: Sequence[Run], measure: str, title: str, how: str) -> Plot | None:
    found = _models(runs, measure, "worst")
    if not found:
        return None
    leak = ((runs[0]["evaluation"] or {}).get("settings") or {}).get("leak", 0.5)
    lines = []
    for data, look in found:
        ordered = sorted(data, reverse=True)
        shares = [100 * i / len(ordered) for i in range(len(ordered) + 1)]
        lines.append(Line(x=shares, y=[100 * value for value in ordered], **look))

    def say(data: Sequence[float]) -> str:
        return percent(mean([value >= leak for value in data]))

    text = (
        f"{how}, questions with the most telling answers first; the grey line is "
        f"{100 * leak:.0f} % of the true answer's words, which counts as a leak. Questions that "
        f"leak: {_of_models(found, say, ', ')}."
    )
    image = curves(
        f"plot-{measure}",
        lines,
        x="share of questions, %",
        y="words told, %",
        alt=text,
        bounds=(0, 102),
        levels=[(100 * leak, "muted")],
        steps=True,
    )
    return Plot(f"figure-{measure}", title, image, text)


def _sampling(runs: Sequence[Run]) -> Plot | None:
    how = "How much of the true answer the most telling of many answers holds"
    return _worst(runs, "sampling", "Asked many times: the most telling answer", how)


def _prefill(runs: Sequence[Run]) -> Plot | None:
    how = "The same where the model is made to begin its answer as an attacker likes"
    return _worst(runs, "prefill", "First words dictated: the most telling answer", how)


def _ranks(runs: Sequence[Run]) -> Plot | None:
    found = _models(runs, "choices", "ranks")
    if not found:
        return None
    lines, count = [], len(found[0][0])
    for data, look in found:
        edges = [i + 0.5 for i in range(len(data) + 1)]
        lines.append(Line(x=edges, y=[100 * n / max(sum(data), 1) for n in data], **look))

    def say(data: Sequence[float]) -> str:
        whole = max(sum(data), 1)
        return f"{percent(data[0] / whole)} first and {percent(data[-1] / whole)} last"

    text = (
        f"Where the true answer stands among {count} options, from the likeliest, 1, to the least "
        f"likely, {count}; the grey line is pure chance, and a peak at either end gives the truth "
        f"away: {_of_models(found, say)}."
    )
    image = curves(
        "plot-ranks",
        lines,
        x="place of the true answer",
        y="share of questions, %",
        alt=text,
        levels=[(100 / count, "muted")],
        steps=True,
    )
    return Plot("figure-ranks", "Place of the true answer among the options", image, text)


def _truth(runs: Sequence[Run]) -> Plot | None:
    found = _models(runs, "choices", "truth")
    if not found:
        return None
    lines = []
    for data, look in found:
        ordered = sorted(data, reverse=True)
        shares = [100 * i / len(ordered) for i in range(len(ordered) + 1)]
        lines.append(Line(x=shares, y=[100 * value for value in ordered], **look))
    text = (
        "How much weight the model gives the true answer beside the wrong ones, questions with "
        f"most weight first; means: {_of_models(found, lambda d: percent(mean(d)), ', ')}."
    )
    image = curves(
        "plot-truth", lines, x="share of questions, %", y="weight of the truth, %",
        alt=text, bounds=(0, 102), steps=True,
    )  # fmt: skip
    return Plot("figure-truth", "Weight of the true answer among the options", image, text)


def _side_effects(runs: Sequence[Run]) -> Plot | None:
    found = [(d, k) for d, k in _models(runs, "side_effects", "histogram") if sum(d)]
    if not found:
        return None
    lines, centres = [], {}
    for data, look in found:
        width = 2 / len(data)
        edges = [-1 + width * i for i in range(len(data) + 1)]
        shares = [n / sum(data) for n in data]
        seen = [100 * share if share else math.nan for share in shares]  # log: nothing is no line
        lines.append(Line(x=edges, y=seen, **look))
        centres[look["label"]] = sum(
            share * (edge + width / 2) for share, edge in zip(shares, edges, strict=False)
        )
    text = (
        "Change of the likelihood that the model gives to words of the forgotten answers where "
        "they stand in unrelated text; a heap at zero is no side effect, a tail to the left is "
        "words that it has learned to avoid. Mean: "
        + ", ".join(f"{label} {centre:+.3f}" for label, centre in centres.items())
        + "."
    )
    image = curves(
        "plot-side-effects",
        lines,
        x="change of probability",
        y="share of words, %",
        alt=text,
        steps=True,
        log=True,
    )
    return Plot("figure-side-effects", "Side effects on unrelated text", image, text)
