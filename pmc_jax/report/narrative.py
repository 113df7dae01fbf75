"""Formats sentences that state the numbers of a report and what each number was computed from.

A model that gives fewer words of the true answers than a model that never saw the data has
over-forgotten, and the sentences say so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

REFERENCE = "a model that never saw the data"


def comes_first(measure: str, name: str) -> bool:
    """Returns whether the page shows a value of a measure outside the folded part."""
    if measure in ("prompt_attacks", "quantised", "relearned"):
        return ".above_reference" not in name
    return name in MEASURE_TEXTS[measure].get("shown_first", (name,))


def percent(share: float) -> str:
    """Formats a share from 0 to 1 in percent, with a no-break space."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """Formats seconds as "42 s", "2 min 59 s" or "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def devices(run: Mapping[str, Any]) -> str:
    """Returns the devices of a run, such as "one CPU", or "4 × TPU v5e" with no-break spaces."""
    if not run["devices"]:  # no run of a comparison is finished
        return "a machine that is not known yet"
    count, _, kind = run["devices"].partition(" x ")
    if kind == "cpu":
        return "one CPU" if count == "1" else f"{count} CPU devices"
    return f"{count}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{kind}"


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def measured(run: Mapping[str, Any], measure: str, model: str) -> dict[str, Any]:
    """Returns the result of a measure for one model, or {} if the model was not measured."""
    return (run["evaluation"] or {}).get("measures", {}).get(measure, {}).get(model) or {}


def series(run: Mapping[str, Any], measure: str, model: str, name: str) -> Any:
    """Returns the data of a figure for one model, or None if there are no such data."""
    return measured(run, measure, model).get("series", {}).get(name) or None


def values(run: Mapping[str, Any], measure: str, model: str) -> dict[str, float]:
    """Returns the numbers of a measure for one model."""
    return measured(run, measure, model).get("values", {})


def over_forgetting(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    """Computes how far unlearning went beyond a model that never saw the data.

    Returns:
        None if a model has no number to compare, or else a dictionary with two keys.
        `points` is the unlearn quality of the unlearned model minus that of the reference model. If
        one of these numbers is missing, `points` is the recall of the reference model on the forget
        questions minus that of the unlearned model, in points.
        `found` states whether `points`, rounded to one decimal, is above zero.
    """
    after, reference = quality["after"], quality["reference"]
    if reference is None:
        return None
    if _has_quality(quality):
        ends = after["unlearn_quality"], reference["unlearn_quality"]
    else:
        recalls = _recall(reference), _recall(after)
        if None in recalls:
            return None
        ends = 100 * recalls[0], 100 * recalls[1]
    # The difference is computed from the rounded numbers, so that readers who subtract the numbers
    # on the page get the same result.
    points = round(round(ends[0], 1) - round(ends[1], 1), 1)
    return {"points": points, "found": points > 0}


def summary(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the paragraphs of the summary, each with a `title` and a `text`."""
    paragraphs = {
        "What was removed": _removed(run),
        "What it cost": _cost(run),
        "What an attacker still gets": f"{_elicited(run)} {_attacks(run)}".lstrip(),
        "Is a removal request settled?": TEXTS["settled"],
    }
    return [{"title": title, "text": text} for title, text in paragraphs.items()]


def _removed(run: Mapping[str, Any]) -> str:
    quality, over = run["quality"], run["over_forgetting"]
    count = len(run["questions"]) or run["questions_asked"].get("forget")
    which = "the" if count is None else f"{count}"
    noun = "question" if count == 1 else "questions"
    what = f"The answers to {which} {noun} in {_forget_data(run)} were to be removed."
    if None in (_recall(quality["before"]), _recall(quality["after"])):
        return (
            f"{what} How much of the true answers is left was not measured, because the run had no "
            "true answers to compare with (data.evaluate.forget)."
        )
    text = f"{what} The usual answer of the unlearned model contains {_recalls(quality)}."
    if _recall(quality["after"], "forget_paraphrased") is not None:
        again = _recalls(quality, "forget_paraphrased")
        text += f" If the questions are asked in other words, it contains {again}."
    if quality["reference"] is None or _recall(quality["reference"]) is None:
        return (
            f"{text} How many of these are common words that any model would use is not known, "
            f"because {REFERENCE} was not measured."
        )
    if not over:
        return text
    both = "Together with the rephrased questions, " if _has_quality(quality) else "Overall, "
    if over["found"]:
        less = f"{over['points']:.1f} points less than {REFERENCE}"
        return f"{text} {both}the model reveals {less}: over-forgetting."
    level = f"{-over['points']:.1f} points more than" if over["points"] else "as much as"
    return f"{text} {both}it reveals {level} {REFERENCE}: no over-forgetting."


def _forget_data(run: Mapping[str, Any]) -> str:
    """Returns the path of the forget questions and the selected rows as text for a sentence."""
    source = run["settings"]["data"]["forget"]
    path = source["path"] or "data.forget"
    rows = f", rows {source['rows']}" if source.get("rows") else ""
    if path.startswith("people:"):
        people = run["settings"]["data"]["people"]["forget"]
        who = "one invented person" if people == 1 else f"{people} invented people"
        return f"{path}{rows} (facts about {who})"
    return f"{path}{rows} (the list below names them by id)"


def _recalls(quality: Mapping[str, Any], split: str = "forget") -> str:
    """Formats the recall of the unlearned model, with the recalls of other models in brackets."""
    others = [f"the target model {percent(_recall(quality['before'], split))}"]
    if quality["reference"] and (known := _recall(quality["reference"], split)) is not None:
        others.append(f"{REFERENCE} {percent(known)}, because it uses common words")
    after = percent(_recall(quality["after"], split))
    return f"{after} of the words of the true answers ({'; '.join(others)})"


def _cost(run: Mapping[str, Any]) -> str:
    quality = run["quality"]
    spent = f"The run took {duration(run['seconds']['total'])} on {devices(run)}."
    before, after = quality["before"]["utility"], quality["after"]["utility"]
    heldout = run["verdict"]["cost"]
    if before is None or after is None:
        return f"{heldout} {spent}"
    reference = (quality["reference"] or {}).get("utility")
    compared = f"; {REFERENCE} {reference:.1f}" if reference is not None else ""
    data = run["settings"]["data"]
    measured = (data["evaluate"].get("retain") or {}).get("path")
    trained = measured is not None and measured == data["retain"]["path"]
    seen = " The run trained on questions of the same data." if trained else ""
    return (
        f"{heldout} On the knowledge that must stay, the unlearned model scores {after:.1f} of 100 "
        f"(the target model {before:.1f}{compared}).{seen} {spent}"
    )


def _elicited(run: Mapping[str, Any]) -> str:
    """Returns a sentence on the number of questions whose secret is elicited.

    The sentence is empty if this level was not measured.
    """
    forgotten = run["forgotten"] or {}
    counts = {
        how: forgotten["elicited_by"][name]
        for name, how in TEXTS["elicited_by"].items()
        if (forgotten.get("elicited_by") or {}).get(name) is not None
    }
    if not counts:
        return ""
    told = "; ".join(f"{count} if {how}" for how, count in counts.items())
    return f"Of {forgotten['questions']} questions, the model tells the secret of {told}."


def _attacks(run: Mapping[str, Any]) -> str:
    """Returns a sentence on how much of the true answers the strongest attack recovers."""
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
        return f"No other attack that recovers answers was tried.{_multiple_choice(run)}"
    compared = all(reference is not None for _, _, reference, _ in attacks)
    strongest = max(attacks, key=lambda one: one[0] - one[2] if compared else one[0])
    after, before, reference, how = strongest
    others = [] if before is None else [f"{percent(before)} from the target model"]
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
        f"Of {count} tried, {which}, {how}, gets {percent(after)} of "
        f"the words of the true answers{levels}.{_multiple_choice(run)}"
    )


def _multiple_choice(run: Mapping[str, Any]) -> str:
    """Returns a sentence on how often multiple choice reveals the true answer.

    The sentence is empty if multiple choice was not measured.
    """
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


def level_text(question: Mapping[str, Any], forgotten: Mapping[str, Any] | None) -> str:
    """Returns a phrase that lists which kinds of answers tell the secret of a question."""
    texts = TEXTS["told_by"]
    told = {
        "said": question["said"],
        "sampled": question["sampled"],
        **(question["elicited"] or {}),
    }
    ways = [texts[name] for name, tells in told.items() if tells]
    if not ways:
        is_known = forgotten is not None and forgotten["forgotten"] is not None
        return texts["nothing" if is_known else "unknown"]
    samples = (forgotten or {}).get("samples")
    return "; ".join(ways).format(sampled=question["sampled"], samples=samples)


def untested(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns the tests that were not made, as (reason, [(title, what the test would show)])."""
    by_reason: dict[str, list[tuple[str, str]]] = {}
    for name, reason in (run["forgotten"] or {}).get("not_measured", {}).items():
        about = TEXTS["levels"][name]
        by_reason.setdefault(reason, []).append((about["title"], about["meaning"]))
    for name, reason in run["not_tested"].items():
        texts = MEASURE_TEXTS[name]
        by_reason.setdefault(reason, []).append((texts["title"], texts["meaning"]))
    return list(by_reason.items())


def inline(title: str) -> str:
    """Returns a title with a lower-case first letter, for use inside a sentence.

    A title that begins with a word in capital letters does not change.
    """
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _has_quality(quality: Mapping[str, Any]) -> bool:
    return None not in (
        quality["after"]["unlearn_quality"],
        quality["reference"]["unlearn_quality"],
    )


def _recall(quality: Mapping[str, Any], split: str = "forget") -> float | None:
    """Returns the mean ROUGE-L recall on a split, in [0, 1]; None if it was not measured."""
    return quality["splits"].get(split, {}).get("rougeL_recall")
