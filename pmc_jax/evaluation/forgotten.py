"""Counts the questions whose secret is told at each level and states the counts in a sentence.

The terminal, the report, the results and the option `--require-forgotten` all use the result of
`summary`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.evaluate import LEVELS, LevelsConfig

ELICITED_BY = {"prefill": "a prefill", "opening": "an opening", "paraphrase": "a paraphrase"}
NOT_REQUESTED = "evaluate.levels.measured does not name them"

Row = Mapping[str, Any]  # result for one question (see `levels.measure_levels`)


def summary(
    rows: Sequence[Row], settings: LevelsConfig, not_paraphrased: str = ""
) -> dict[str, Any]:
    """Counts the questions whose secret an answer tells, at each level and in total.

    Args:
        rows: results of the levels for each question, as `levels.measure_levels` returns them.
        settings: settings of the levels.
        not_paraphrased: reason why no question has a paraphrase, or "" if some have.

    Returns:
        The field `forgotten` of results.json. Numbers that were not measured are None.
        `questions` is the number of questions.
        `forgotten` is the number of questions whose secret is told at no measured level.
        `said`, `sampled` and `elicited` count the questions whose secret is told at this level.
        `elicited_by` has such a number for each name in `ELICITED_BY`.
        `samples` is the number of sampled answers per question.
        `without_items` is the number of questions whose answers have no secret item.
        `empty` is the number of questions whose original and true answer have no word.
        `cut` is the number of questions whose original or true answer is longer than
        `evaluate.max_new_tokens`, so that no answer can tell all of it.
        `unknown` is the number of questions whose true answer the model did not give before
        unlearning.
        `weaker` lists the settings that find fewer secrets than the defaults.
        `not_measured` maps a level or a name in `ELICITED_BY` to the reason.
        `headline` states the numbers as a sentence.
    """
    reveal = {level: [tells_at(row, level) for row in rows] for level in LEVELS}
    counts: dict[str, Any] = {
        level: sum(told) if level in settings.measured else None for level, told in reveal.items()
    }
    elicited = [row["elicited"] or {} for row in rows]
    by = {name: _count([told[name] for told in elicited if name in told]) for name in ELICITED_BY}
    not_measured = {level: NOT_REQUESTED for level in LEVELS if level not in settings.measured}
    if "elicited" in settings.measured:
        reasons = {
            "prefill": "there is no question",
            "opening": "no original answer has words before its secret",
            "paraphrase": not_paraphrased or "no question has a paraphrase",
        }
        not_measured |= {name: reasons[name] for name, count in by.items() if count is None}
    result = {
        "questions": len(rows),
        "forgotten": [*map(first_level, rows)].count(None) if settings.measured else None,
        **counts,
        "elicited_by": by,
        "samples": settings.num_samples if "sampled" in settings.measured else None,
        "without_items": sum(not row["items"] for row in rows),
        "empty": sum(row["is_empty"] for row in rows),
        "cut": sum(row["is_cut"] for row in rows),
        "unknown": sum(row["was_known"] is False for row in rows),
        "weaker": _weaker(settings),
        "not_measured": not_measured,
    }
    return result | {"headline": _headline(result)}


def _count(told: Sequence[bool]) -> int | None:
    """Returns how many entries are true, or None if there are no entries."""
    return sum(told) if told else None


def tells_at(row: Row, level: str) -> bool:
    """Returns whether the secret of a question is told at a level.

    The result is False if the level was not measured.
    """
    told = row[level]
    return any(told.values()) if isinstance(told, Mapping) else bool(told)


def first_level(row: Row) -> str | None:
    """Returns the first level at which the secret of a question is told.

    The result is None if the secret is told at no measured level.
    """
    return next((level for level in LEVELS if tells_at(row, level)), None)


def is_forgotten(result: Mapping[str, Any], level: str) -> bool:
    """Returns whether no secret is told at a level or at any level before it.

    Args:
        result: result of `summary` in which these levels are measured.
        level: one of `LEVELS`.
    """
    return not any(result[name] for name in LEVELS[: LEVELS.index(level) + 1])


def _weaker(settings: LevelsConfig) -> list[str]:
    """Returns the settings with which the levels find fewer secrets than with the defaults."""
    usual = LevelsConfig()
    is_weaker = {
        "num_samples": settings.num_samples < usual.num_samples,
        "temperature": settings.temperature < usual.temperature,
        "max_score": settings.max_score > usual.max_score,
    }
    return [f"evaluate.levels.{n}={getattr(settings, n)}" for n, weak in is_weaker.items() if weak]


def _headline(result: Mapping[str, Any]) -> str:
    """Returns the numbers as one sentence ("no longer said: 12 of 12; sampled: 1; ...")."""
    count, parts = result["questions"], []
    if result["said"] is not None:
        parts.append(f"no longer said: {count - result['said']} of {count}")
    if result["sampled"] is not None:
        parts.append(f"sampled: {result['sampled']}")
    by = {ELICITED_BY[n]: told for n, told in result["elicited_by"].items() if told is not None}
    if by:
        told = ", by ".join(f"{how}: {number}" for how, number in by.items())
        parts.append(f"still elicited by {told}")
    if not parts:
        return "it is not known which questions are forgotten: evaluate.levels.measured is empty"
    parts.append(f"forgotten at every measured level: {result['forgotten']} of {count}")
    names = [ELICITED_BY.get(name, name) for name in result["not_measured"]]
    notes = {
        "not measured": ", ".join(names),
        "weaker than the defaults": ", ".join(result["weaker"]),
        "questions whose true answer the model did not give before": result["unknown"],
        "questions whose answers have no word": result["empty"],
        "questions with an answer longer than evaluate.max_new_tokens": result["cut"],
    }
    return "; ".join([*parts, *(f"{what}: {value}" for what, value in notes.items() if value)])
