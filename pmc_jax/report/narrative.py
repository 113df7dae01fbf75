"""The report's numbers in plain sentences that name what each number was computed from.

A model that ends below the level of a model that never saw the data has over-forgotten, and the
sentences say so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.method import TARGET_BASED
from pmc_jax.report import methods
from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

REFERENCE = "a model that never saw the data"


def comes_first(measure: str, name: str) -> bool:
    """Whether the page shows a value outside the folded part."""
    if measure in ("prompt_attacks", "quantised", "relearned"):
        return ".above_reference" not in name
    return name in MEASURE_TEXTS[measure].get("shown_first", (name,))


def percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """ "42 s", "2 min 59 s", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def devices(run: Mapping[str, Any]) -> str:
    """ "4 × TPU v5e", with spaces that don't break."""
    return run["devices"].replace(" x ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def measured(run: Mapping[str, Any], measure: str, model: str) -> dict[str, Any]:
    """The result of a measure for one model; empty if it was not measured."""
    return (run["evaluation"] or {}).get("measures", {}).get(measure, {}).get(model) or {}


def series(run: Mapping[str, Any], measure: str, model: str, name: str) -> Any:
    """The data of a figure for one model; None if it was not measured."""
    return measured(run, measure, model).get("series", {}).get(name) or None


def values(run: Mapping[str, Any], measure: str, model: str) -> dict[str, float]:
    """The numbers of a measure for one model."""
    return measured(run, measure, model).get("values", {})


def over_forgetting(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far unlearning went beyond a model that never saw the data; None if not known.

    Returns:
        `points`: unlearn quality after unlearning minus that of the reference, in points; if one
        of them is missing, the recall of the reference minus that of this model, in points.
        `found`: whether `points` is above zero, rounded to one decimal.
    """
    after, reference = quality["after"], quality["reference"]
    if reference is None:
        return None
    if _has_quality(quality):
        ends = after["unlearn_quality"], reference["unlearn_quality"]
    else:
        recalls = _forget_recall(reference), _forget_recall(after)
        if None in recalls:
            return None
        ends = 100 * recalls[0], 100 * recalls[1]
    # Computed from the numbers as shown, so that a reader who subtracts gets the same.
    points = round(round(ends[0], 1) - round(ends[1], 1), 1)
    return {"points": points, "found": points > 0}


def summary(run: Mapping[str, Any]) -> list[str]:
    """Four texts: what was removed, what it cost, what is left, what was not tested."""
    return [_removed(run), _cost(run), _attacker(run), _untested(run)]


def _removed(run: Mapping[str, Any]) -> str:
    quality, over = run["quality"], run["over_forgetting"]
    before, after = _forget_recall(quality["before"]), _forget_recall(quality["after"])
    if before is None or after is None:
        return (
            "What was removed: this was not measured, because the run had no true answers to "
            "compare with (data.evaluate.forget)."
        )
    count = run["questions_asked"].get("forget")
    questions = f"the {count} private questions" if count else "the private questions"
    text = (
        f"What was removed: asked {questions}, the model now gives {percent(after)} of the words "
        f"of the true answers ({percent(before)} before"
    )
    reference = quality["reference"] and _forget_recall(quality["reference"])
    if reference is None:
        return (
            f"{text}). How many of these are common words that any model would use is not known, "
            f"because {REFERENCE} was not measured."
        )
    text += f"; {percent(reference)} for {REFERENCE}, which uses common words)."
    if not over:
        return text
    both = "Together with the rephrased questions, " if _has_quality(quality) else ""
    if over["found"]:
        less = f"{over['points']:.1f} points less than {REFERENCE}"
        return f"{text} {both or 'Overall, '}the model reveals {less}: over-forgetting."
    level = f"{-over['points']:.1f} points more than" if over["points"] else "as much as"
    return f"{text} {both or 'Overall, '}it reveals {level} {REFERENCE}: no over-forgetting."


def _cost(run: Mapping[str, Any]) -> str:
    quality = run["quality"]
    spent = f"the run took {duration(run['seconds']['total'])} on {devices(run)}"
    before, after = quality["before"]["utility"], quality["after"]["utility"]
    if before is None or after is None:
        return f"What it cost: {spent}; the loss of other knowledge was not measured."
    reference = (quality["reference"] or {}).get("utility")
    compared = f"; {reference:.1f} for {REFERENCE}" if reference is not None else ""
    return (
        f"What it cost: on the knowledge that must stay, the model scores {after:.1f} of 100 "
        f"({before:.1f} before{compared}), and {spent}."
    )


def _attacker(run: Mapping[str, Any]) -> str:
    leakage = ((run["evaluation"] or {}).get("settings") or {}).get("leakage", {})
    attacks = []
    for measure, texts in MEASURE_TEXTS.items():
        for name, how in texts.get("attacks", {}).items():
            after, before, reference = (
                values(run, measure, model).get(name) for model in ("after", "before", "reference")
            )
            if after is not None:
                attacks.append((after, before, reference, how))
    if not attacks:
        return "What an attacker still gets: this was not measured, because no attack was tried."
    compared = all(reference is not None for _, _, reference, _ in attacks)
    strongest = max(attacks, key=lambda one: one[0] - one[2] if compared else one[0])
    after, before, reference, how = strongest
    others = [] if before is None else [f"{percent(before)} before"]
    others += [] if reference is None else [f"{percent(reference)} from {REFERENCE}"]
    levels = f" ({'; '.join(others)})" if others else ""
    how = how.format(samples=leakage.get("num_samples", "many"))
    which = "the strongest"
    if compared and after > reference:
        which = f"the one that gets most beyond {REFERENCE}"
    elif compared:
        which = f"none gets more than from {REFERENCE}; the closest"
    count = "one attack" if len(attacks) == 1 else f"{len(attacks)} attacks"
    return (
        f"What an attacker still gets: of {count} tried, {which}, {how}, gets {percent(after)} of "
        f"the words of the true answers{levels}.{_multiple_choice(run)}"
    )


def _multiple_choice(run: Mapping[str, Any]) -> str:
    """How often multiple choice reveals the true answer; "" if it was not measured."""
    after, reference = (
        values(run, "multiple_choice", model).get("most_likely") for model in ("after", "reference")
    )
    if after is None:
        return ""
    level = "" if reference is None else f" ({percent(reference)} for {REFERENCE})"
    return (
        f" Among wrong answers, the model finds the true one most likely for {percent(after)} of "
        f"the questions{level}."
    )


def to_delete(
    folder: str, entries: Sequence[str], inputs: Mapping[str, str], comparison: str | None
) -> list[str]:
    """Returns sentences about what still knows the data and has to be deleted.

    Args:
        folder: folder of the run or the comparison.
        entries: what knows the data in it, see `manifest.private_entries`.
        inputs: name -> path of each input that may know the data and that exists.
        comparison: folder of the comparison that the run belongs to, if it knows the data.
    """
    texts, lines = TEXTS["to_delete"], []
    if entries:
        lines.append(texts["run"].format(folder=folder, entries=", ".join(entries)))
    if comparison:
        lines.append(texts["comparison"].format(folder=comparison))
    if "model" in inputs:
        lines.append(texts["model"].format(model=inputs["model"]))
    if data := sorted({path for name, path in inputs.items() if name != "model"}):
        lines.append(texts["data"].format(data=", ".join(data)))
    return [*lines, texts["copies"]]


def _untested(run: Mapping[str, Any]) -> str:
    names = [MEASURE_TEXTS[name]["title"].lower() for name in not_tested(run)]
    if not names:
        return "What was not tested: every measure on this page ran, but other attacks exist."
    return f"What was not tested: {', '.join(names)}."


def not_tested(run: Mapping[str, Any]) -> dict[str, str]:
    """Measure -> the reason why it was not computed."""
    evaluation = run["evaluation"] or {}
    reasons, done = evaluation.get("not_computed", {}), evaluation.get("measures", {})
    return {
        name: reasons.get(name, "not requested: evaluate.measures")
        for name in MEASURE_TEXTS
        if name not in done
    }


def not_claimed(run: Mapping[str, Any]) -> list[str]:
    """Claims that the numbers of this report do not support."""
    texts = TEXTS["not_claimed"]
    claims = [texts["weights"]]
    if methods.method(run) in TARGET_BASED:
        claims.append(texts["target_based"].format(method=methods.label(run)))
    elif methods.samples(run):
        share = run["rounds"][0].get("overlap_with_original") if run["rounds"] else None
        shared = "" if share is None else " " + texts["overlap"].format(share=percent(share))
        claims.append(texts["own_answers"].format(overlap=shared))
    claims += texts["always"]
    if run["settings"]["evaluate"]["keep_best"]:
        claims.append(texts["chosen"])
    return claims + ([texts["no_reference"]] if run["quality"]["reference"] is None else [])


def _has_quality(quality: Mapping[str, Any]) -> bool:
    return None not in (
        quality["after"]["unlearn_quality"],
        quality["reference"]["unlearn_quality"],
    )


def _forget_recall(quality: Mapping[str, Any]) -> float | None:
    """Mean ROUGE-L recall on the forget questions, in [0, 1]."""
    return quality["splits"].get("forget", {}).get("rougeL_recall")
