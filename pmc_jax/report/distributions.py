"""Draws distributions over questions, options and words, each with a sentence on the numbers.

The figure of one run shows the target model, the unlearned model and the reference model. The
figure of several runs shows the unlearned model of each run and one reference model.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.artifacts.figure import Figure, Level, Line, Panel
from pmc_jax.evaluation.side_effects import DROP
from pmc_jax.report.narrative import mean, percent, series, values
from pmc_jax.report.plots import Run, existing, run_style

_MODELS = (
    ("before", "target model", "dotted"),
    ("after", "unlearned model", "solid"),
    ("reference", "never saw the data", "dashed"),
)
Styled = tuple[Sequence[float], dict[str, str]]  # A series, and the style of its line


# Measures with many answers to each question: title, meaning of the numbers.
_SAMPLED = {
    "sampling": (
        "Many sampled answers: the most revealing one",
        "Share of the words of the true answer in the most revealing of many sampled answers",
    ),
    "prefill": (
        "First words dictated: the most revealing answer",
        "Share of the words of the true answer in the most revealing of many answers whose first "
        "words the attacker dictates",
    ),
}


def of_measure(runs: Sequence[Run], measure: str) -> list[Figure]:
    """Draws the distributions of one measure; the list is empty if the measure has no figure."""
    if measure in _SAMPLED:
        return existing(_worst(runs, measure))
    if measure == "multiple_choice":
        return existing(_ranks(runs), _truth(runs))
    return existing(_side_effects(runs)) if measure == "side_effects" else []


def _styled(runs: Sequence[Run], measure: str, name: str) -> list[Styled]:
    """Returns the named series of a measure with a line style for each model that has the series.

    The models are those of a single run, or the unlearned model of each run and one reference.
    """
    if len(runs) == 1:
        styled = [
            (series(runs[0], measure, model, name), {"label": label, "colour": model, "dash": dash})
            for model, label, dash in _MODELS
        ]
    else:
        styled = [
            (series(run, measure, "after", name), run_style(runs, i)) for i, run in enumerate(runs)
        ]
        # The line is drawn in ink, because a run may have the colour of the reference.
        style = {"label": "never saw the data", "colour": "ink", "dash": "dashed"}
        references = [series(run, measure, "reference", name) for run in runs]
        styled += [(data, style) for data in references if data is not None][:1]
    return [(data, style) for data, style in styled if data is not None]


def _by_model(styled: Sequence[Styled], say: Callable[[Any], str], join: str = ", ") -> str:
    return join.join(f"{style['label']} {say(data)}" for data, style in styled)


def _ordered(styled: Sequence[Styled]) -> list[Line]:
    """Returns a line for each series: its values from high to low against the share of questions.

    Both axes are in percent.
    """
    return [
        Line(
            x=[100 * i / len(data) for i in range(len(data) + 1)],
            y=[100 * value for value in sorted(data, reverse=True)],
            steps=True,
            **style,
        )
        for data, style in styled
    ]


def _worst(runs: Sequence[Run], measure: str) -> Figure | None:
    styled = _styled(runs, measure, "worst")
    if not styled:
        return None
    settings = runs[0]["evaluation"]["settings"]["leakage"]
    leak, (title, how) = settings["threshold"], _SAMPLED[measure]
    leaks = _by_model(styled, lambda data: percent(mean([value >= leak for value in data])))
    text = f"{how}; {100 * leak:.0f} % or more count as a leak. Questions that leak: {leaks}."
    bound = values(runs[0], measure, "after").get("share_upper") if len(runs) == 1 else None
    if bound is not None:
        text += (
            f" With {100 * settings['confidence']:g} % confidence, at most {percent(bound)} of all "
            "such answers leak after unlearning."
        )
    caption = f"{text} The grey line is this limit; questions are in descending order."
    layers = [*_ordered(styled), Level(100 * leak, "muted")]
    panel = Panel(layers, "share of questions, %", "words leaked, %", bounds=(0, 102))
    return Figure(measure, title, caption, [panel], alt=text)


def _ranks(runs: Sequence[Run]) -> Figure | None:
    styled = _styled(runs, "multiple_choice", "rank")
    if not styled:
        return None
    count = len(styled[0][0])
    edges = [i + 0.5 for i in range(count + 1)]
    lines = [
        Line(x=edges, y=[100 * n / max(sum(data), 1) for n in data], steps=True, **style)
        for data, style in styled
    ]

    def say(data: Sequence[float]) -> str:
        total = max(sum(data), 1)
        return f"{percent(data[0] / total)} first and {percent(data[-1] / total)} last"

    text = (
        f"Rank of the true answer among {count} options, from the most likely, 1, to the least "
        f"likely, {count}: {_by_model(styled, say, '; ')}."
    )
    caption = f"{text} The grey line is chance; a peak at either end reveals the true answer."
    layers = [*lines, Level(100 / count, "muted")]
    panel = Panel(layers, "rank of the true answer", "share of questions, %")
    title = "Rank of the true answer among the options"
    return Figure("rank", title, caption, [panel], alt=text)


def _truth(runs: Sequence[Run]) -> Figure | None:
    styled = _styled(runs, "multiple_choice", "true_score")
    if not styled:
        return None
    text = (
        "Share of the true answer in the likelihood of all options, mean over questions: "
        f"{_by_model(styled, lambda data: percent(mean(data)))}."
    )
    lines = _ordered(styled)
    panel = Panel(lines, "share of questions, %", "likelihood share, %", bounds=(0, 102))
    return Figure("truth", "Likelihood of the true answer among the options", text, [panel])


def _side_effects(runs: Sequence[Run]) -> Figure | None:
    measured = all(series(run, "side_effects", "after", "reference.forget") for run in runs)
    base = "reference" if measured else "before"
    styled = _styled(runs, "side_effects", f"{base}.forget")
    others = series(runs[0], "side_effects", "after", f"{base}.other") if len(runs) == 1 else None
    if styled and others:
        style = {"label": "unlearned model, other words", "colour": "muted", "dash": "mixed"}
        styled.append((others, style))
    styled = [(counts, style) for counts, style in styled if sum(counts)]
    if not styled:
        return None
    bins = len(styled[0][0])  # over -1 to 1
    lines = [
        Line(
            x=[-1 + 2 / bins * i for i in range(bins + 1)],
            y=[100 * n / sum(counts) if n else math.nan for n in counts],  # the axis is logarithmic
            steps=True,
            **style,
        )
        for counts, style in styled
    ]
    beyond = math.floor((1 - DROP) / 2 * bins)  # bins completely below -DROP
    parts = _by_model(styled, lambda counts: percent(sum(counts[:beyond]) / sum(counts)))
    where = "a model that never saw the data" if measured else "the model before unlearning"
    text = (
        "Change of the probability of the words of the forgotten answers in unrelated text, "
        f"against {where}. Down by {1 - 2 * beyond / bins:.2f} or more: {parts}."
    )
    caption = (
        f"{text} A peak at zero means no side effects; a tail to the left means that the model "
        "avoids words."
    )
    panel = Panel(lines, "change of probability", "share of words, %", log=True)
    return Figure("side-effects", "Change in unrelated text", caption, [panel], alt=text)
