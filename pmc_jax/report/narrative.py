"""The report's numbers in sentences: plain words, each with what it was computed from.

What is below the level of a model that never saw the data is over-forgetting, and is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.method import TARGET_BASED
from pmc_jax.report import methods
from pmc_jax.report.texts import MEASURES, TEXTS

REFERENCE = "a model that never saw the data"


def comes_first(measure: str, name: str) -> bool:
    """Whether a value is shown at once."""
    if measure in ("prompt_attacks", "quantised", "relearned"):
        return ".above_reference" not in name
    return name in MEASURES[measure].get("shown_first", (name,))


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
    """What a measure says of one model; empty where it was not measured."""
    return (run["evaluation"] or {}).get("measures", {}).get(measure, {}).get(model) or {}


def series(run: Mapping[str, Any], measure: str, model: str, name: str) -> Any:
    """What a figure shows of one model; None where it was not measured."""
    return measured(run, measure, model).get("series", {}).get(name) or None


def values(run: Mapping[str, Any], measure: str, model: str) -> dict[str, float]:
    """The numbers of a measure for one model."""
    return measured(run, measure, model).get("values", {})


def over_forgetting(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far unlearning went beyond a model that never saw the data; None where not known.

    Returns:
        `points`: unlearn quality after, less that of the reference, in points; where one of them
        is missing, the words that the reference tells and this model does not, in points.
        `found`: whether it is above zero, to one decimal.
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
    # Of the numbers as they are shown, so that a reader who subtracts gets the same.
    points = round(round(ends[0], 1) - round(ends[1], 1), 1)
    return {"points": points, "found": points > 0}


def summary(run: Mapping[str, Any]) -> list[str]:
    """Three sentences: what was removed, what it cost, what an attacker still gets."""
    return [_removed(run), _cost(run), _attacker(run)]


def _removed(run: Mapping[str, Any]) -> str:
    quality, over = run["quality"], run["over_forgetting"]
    before, after = _forget_recall(quality["before"]), _forget_recall(quality["after"])
    if before is None or after is None:
        return (
            "What was removed: this was not measured, the run had no true answers to compare with "
            "(data.evaluate.forget)."
        )
    count = run["questions_asked"].get("forget")
    questions = f"the {count} private questions" if count else "the private questions"
    text = (
        f"What was removed: asked {questions}, the model now says {percent(after)} of the words of "
        f"the true answers ({percent(before)} before"
    )
    reference = quality["reference"] and _forget_recall(quality["reference"])
    if reference is None:
        return (
            f"{text}); how much of that is common words that any model would say is not known, "
            f"because {REFERENCE} was not measured."
        )
    text += f"; {percent(reference)} {REFERENCE}, by common words alone)"
    if not over:
        return f"{text}."
    both = "together with the rephrased questions " if _has_quality(quality) else ""
    if over["found"]:
        less = f"{over['points']:.1f} points less than from {REFERENCE}"
        return f"{text}; {both}that is {less}: over-forgetting."
    level = f"{-over['points']:.1f} points more than" if over["points"] else "as much as"
    return f"{text}; {both}that is {level} from {REFERENCE}: no over-forgetting."


def _cost(run: Mapping[str, Any]) -> str:
    quality = run["quality"]
    spent = f"the work took {duration(run['seconds']['total'])} on {devices(run)}"
    before, after = quality["before"]["utility"], quality["after"]["utility"]
    if before is None or after is None:
        return f"What it cost: {spent}; what else the model has lost was not measured."
    reference = (quality["reference"] or {}).get("utility")
    beside = f"; {reference:.1f} {REFERENCE}" if reference is not None else ""
    return (
        f"What it cost: on what it should still know, the model scores {after:.1f} of 100 "
        f"({before:.1f} before{beside}), and {spent}."
    )


def _attacker(run: Mapping[str, Any]) -> str:
    leakage = ((run["evaluation"] or {}).get("settings") or {}).get("leakage", {})
    attacks = []
    for measure, texts in MEASURES.items():
        for name, how in texts.get("attacks", {}).items():
            after, before, reference = (
                values(run, measure, model).get(name) for model in ("after", "before", "reference")
            )
            if after is not None:
                attacks.append((after, before, reference, how))
    if not attacks:
        return (
            "What an attacker still gets: beyond plain questions this was not measured; see what "
            "was not tested."
        )
    compared = all(reference is not None for _, _, reference, _ in attacks)
    strongest = max(attacks, key=lambda one: one[0] - one[2] if compared else one[0])
    after, before, reference, how = strongest
    others = [] if before is None else [f"{percent(before)} before"]
    others += [] if reference is None else [f"{percent(reference)} from {REFERENCE}"]
    beside = f" ({'; '.join(others)})" if others else ""
    how = how.format(samples=leakage.get("num_samples", "many"))
    which = "the one that gets most"
    if compared and after > reference:
        which += f" beyond {REFERENCE}"
    elif compared:
        which = f"none gets more than from {REFERENCE}: the nearest to it"
    count = "one attack" if len(attacks) == 1 else f"{len(attacks)} attacks"
    return (
        f"What an attacker still gets: of {count} tried, {which}, {how}, gets {percent(after)} of "
        f"the words of the true answers{beside}{_multiple_choice(run)}."
    )


def _multiple_choice(run: Mapping[str, Any]) -> str:
    """What an attacker with the true answer among wrong ones gets; "" where not measured."""
    after, reference = (
        values(run, "multiple_choice", model).get("most_likely") for model in ("after", "reference")
    )
    if after is None:
        return ""
    beside = "" if reference is None else f" ({percent(reference)} to {REFERENCE})"
    share = f"{percent(after)} of the time{beside}"
    return f"; beside wrong answers, the true one is the likeliest {share}"


def not_tested(run: Mapping[str, Any]) -> dict[str, str]:
    """Measure -> why it was not computed."""
    evaluation = run["evaluation"] or {}
    reasons, done = evaluation.get("not_computed", {}), evaluation.get("measures", {})
    return {
        name: reasons.get(name, "not asked for: evaluate.measures")
        for name in MEASURES
        if name not in done
    }


def not_claimed(run: Mapping[str, Any]) -> list[str]:
    """What the numbers of this report do not show."""
    texts = TEXTS["not_claimed"]
    claims = [texts["weights"]]
    if methods.method(run) in TARGET_BASED:
        claims.append(texts["target_based"].format(method=methods.label(run)))
    elif methods.samples(run):
        share = run["rounds"][0].get("overlap_with_original") if run["rounds"] else None
        shared = "" if share is None else " " + texts["overlap"].format(share=percent(share))
        claims.append(texts["own_answers"].format(overlap=shared))
    claims += texts["always"]
    return claims + ([texts["no_reference"]] if run["quality"]["reference"] is None else [])


def _has_quality(quality: Mapping[str, Any]) -> bool:
    return None not in (
        quality["after"]["unlearn_quality"],
        quality["reference"]["unlearn_quality"],
    )


def _forget_recall(quality: Mapping[str, Any]) -> float | None:
    """Share of the true answers' words that a model says to the forget questions."""
    return quality["splits"].get("forget", {}).get("rougeL_recall")
