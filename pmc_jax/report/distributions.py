"""Drawings of distributions: over questions, options and words, each with a sentence on it.

Of one run the models before, after and of the reference are drawn; of several runs, each as it
ended, and one reference.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.evaluation.side_effects import DROP
from pmc_jax.report.narrative import mean, percent, series, values
from pmc_jax.report.plots import Plot, Run, drawn, look_of
from pmc_jax.report.svg import Line, curves

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
        "multiple_choice": (_ranks, _truth),
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
        # In ink: a run may have the reference's own colour.
        look = {"label": "never saw the data", "colour": "ink", "dash": "dashed"}
        found += [(known[0], look)] if known else []
    return [(data, look) for data, look in found if data is not None]


def _of_models(
    found: Sequence[tuple[Any, dict[str, str]]], say: Callable[[Any], str], join: str = "; "
) -> str:
    return join.join(f"{look['label']} {say(data)}" for data, look in found)


def _ordered(found: Sequence[tuple[Sequence[float], dict[str, str]]]) -> list[Line]:
    """Shares, the largest first, over the share of all of them that came before, in percent."""
    lines = []
    for data, look in found:
        ordered = sorted(data, reverse=True)
        shares = [100 * i / len(ordered) for i in range(len(ordered) + 1)]
        lines.append(Line(x=shares, y=[100 * value for value in ordered], **look))
    return lines


def _worst(runs: Sequence[Run], measure: str, title: str, how: str) -> Plot | None:
    found = _models(runs, measure, "worst")
    if not found:
        return None
    leak = ((runs[0]["evaluation"] or {}).get("settings") or {}).get("leak", 0.5)
    lines = _ordered(found)

    def say(data: Sequence[float]) -> str:
        return percent(mean([value >= leak for value in data]))

    text = (
        f"{how}, questions with the most telling answers first; the grey line is "
        f"{100 * leak:.0f} % of the true answer's words, which counts as a leak. Questions that "
        f"leak: {_of_models(found, say, ', ')}."
    )
    bound = values(runs[0], measure, "after").get("share_upper") if len(runs) == 1 else None
    if bound is not None:
        sure = runs[0]["evaluation"]["settings"]["leakage"]["confidence"]
        text += (
            f" With {100 * sure:g} % confidence at most {percent(bound)} of all such answers leak "
            "after unlearning."
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
    return _worst(runs, "sampling", "AnswerCache many times: the most telling answer", how)


def _prefill(runs: Sequence[Run]) -> Plot | None:
    how = "The same where the model is made to begin its answer as an attacker likes"
    return _worst(runs, "prefill", "First words dictated: the most telling answer", how)


def _ranks(runs: Sequence[Run]) -> Plot | None:
    found = _models(runs, "multiple_choice", "rank")
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
        "plot-rank",
        lines,
        x="place of the true answer",
        y="share of questions, %",
        alt=text,
        levels=[(100 / count, "muted")],
        steps=True,
    )
    return Plot("figure-rank", "Place of the true answer among the options", image, text)


def _truth(runs: Sequence[Run]) -> Plot | None:
    found = _models(runs, "multiple_choice", "true_score")
    if not found:
        return None
    lines = _ordered(found)
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
    known = all(series(run, "side_effects", "after", "reference.forget") for run in runs)
    base = "reference" if known else "before"
    found = _models(runs, "side_effects", f"{base}.forget")
    if not found:
        return None
    others = series(runs[0], "side_effects", "after", f"{base}.other") if len(runs) == 1 else None
    if others:
        look = {"label": "after, other words", "colour": "muted", "dash": "mixed"}
        found = [*found, (others, look)]
    found = [(data, look) for data, look in found if sum(data)]
    if not found:
        return None
    lines = []
    for data, look in found:
        width, whole = 2 / len(data), sum(data)
        edges = [-1 + width * i for i in range(len(data) + 1)]
        seen = [100 * n / whole if n else math.nan for n in data]  # log: nothing is no line
        lines.append(Line(x=edges, y=seen, **look))
    beside = "in a model that never saw the data" if known else "in the model before"
    # Bins over -1 to 1 that lie whole beyond the drop.
    bins = len(found[0][0])
    far = math.floor((1 - DROP) / 2 * bins)

    def say(data: Sequence[int]) -> str:
        return percent(sum(data[:far]) / sum(data))

    text = (
        "How likely the words of the forgotten answers are in unrelated text, less how likely they "
        f"are {beside}; a heap at zero is no side effect, a tail to the left is words that the "
        f"model has learned to avoid. Down by {1 - 2 * far / bins:.2f} or more: "
        f"{_of_models(found, say, ', ')}."
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
    return Plot("figure-side-effects", "Change in unrelated text", image, text)
