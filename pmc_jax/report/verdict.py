"""States in sentences which questions are forgotten, what it cost, and what was not measured.

The terminal and the report begin with these sentences. They need no true answers: without them, the
original answers are the reference.
"""

from collections.abc import Mapping
from typing import Any

from pmc_jax.config.evaluate import LEVELS
from pmc_jax.report import remains
from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

Run = Mapping[str, Any]
_TEXTS = TEXTS["verdict"]


def verdict(run: Run) -> dict[str, Any]:
    """Returns the verdict on a run.

    Args:
        run: entry of `runs` in `report.json` with the keys `forgotten`, `heldout`, `quality`,
            `evaluation` and `settings`.

    Returns:
        A dictionary with five keys.
        `text` states how many questions are forgotten.
        `levels` is a list of dictionaries with the `level`, the `result` such as "10 of 12
        questions", and the `meaning` of the result.
        `cost` states how much of the held-out retain answers the model still gives.
        `notes` is a list of sentences about what weakens the verdict.
        `not_measured` is a list of dictionaries: `what` was not measured, and the `reason` with
        the setting that measures it.
    """
    forgotten = run["forgotten"]
    missing = _not_measured(run)
    return {
        "text": _text(forgotten, "forget" in run["settings"]["data"]["evaluate"]),
        "levels": [_level(run, level) for level in LEVELS],
        "cost": _cost(run["heldout"]),
        "notes": _notes(forgotten),
        "not_measured": [{"what": what, "reason": reason} for what, reason in missing],
    }


def _text(forgotten: Mapping[str, Any], has_truth: bool) -> str:
    if forgotten["forgotten"] is None:
        return _TEXTS["unknown"]
    count, done = forgotten["questions"], forgotten["forgotten"]
    text = _TEXTS["forgotten"].format(
        done=done, count=count, reference=_TEXTS["with_truth" if has_truth else "without_truth"]
    )
    return text if done == count else f"{text} {_TEXTS['left'].format(count=count - done)}"


def _level(run: Run, level: str) -> dict[str, str]:
    """Returns the number of questions whose secret no answer tells at a level, and its meaning."""
    forgotten = run["forgotten"]
    told, count = forgotten[level], forgotten["questions"]
    if told is None:
        meaning = f"This would show {TEXTS['levels'][level]['meaning']}."
        return {"level": level, "result": _TEXTS["not_measured"], "meaning": meaning}
    samples = run["settings"]["evaluate"]["levels"]["num_samples"]
    meaning = _TEXTS["levels"][level].format(samples=samples)
    ways = [
        _TEXTS["ways"][way].format(told=number)
        for way, number in forgotten["elicited_by"].items()
        if level == "elicited" and number is not None
    ]
    if ways:
        meaning = f"{meaning} {_TEXTS['told_by'].format(ways='; '.join(ways))}"
    noun = "question" if count == 1 else "questions"
    return {"level": level, "result": f"{count - told} of {count} {noun}", "meaning": meaning}


def _cost(heldout: Mapping[str, Any]) -> str:
    if heldout["not_measured"]:
        return _TEXTS["no_cost"].format(reason=heldout["not_measured"])
    before, after = (f"{100 * heldout[moment]:.1f}" for moment in ("before", "after"))
    text = _TEXTS["cost"].format(rows=heldout["rows"], before=before, after=after)
    if heldout["evaluated"]:
        text += f" {_TEXTS['evaluated'].format(rows=heldout['evaluated'])}"
    return text


def _notes(forgotten: Mapping[str, Any]) -> list[str]:
    """Returns sentences about settings and answers that weaken the verdict."""
    values = forgotten | {"weaker": ", ".join(forgotten["weaker"])}
    return [text.format(**values) for name, text in _TEXTS["notes"].items() if values[name]]


def _not_measured(run: Run) -> list[tuple[str, str]]:
    """Returns what was not measured, each with the reason or the setting that measures it."""
    quality, settings = run["quality"], run["settings"]
    needs = _TEXTS["needs"]
    missing = [
        (TEXTS["levels"][name]["title"], needs.get(name, reason))
        for name, reason in run["forgotten"]["not_measured"].items()
    ]
    missing += [
        (TEXTS["quality"][name]["name"], needs[name])
        for name in ("unlearn_quality", "utility")
        if quality["after"][name] is None
    ]
    if quality["reference"] is None:
        can_make = "make_reference" if settings["finetune"]["data"] else "reference"
        missing.append((_TEXTS["reference"], needs[can_make]))
    by_reason: dict[str, list[str]] = {}
    for name, reason in remains.not_tested(run).items():
        why = needs["measures"] if reason == remains.NOT_REQUESTED else reason
        by_reason.setdefault(why, []).append(f"{MEASURE_TEXTS[name]['title']} ({name})")
    return missing + [("; ".join(names), why) for why, names in by_reason.items()]
