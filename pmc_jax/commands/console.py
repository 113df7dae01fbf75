"""Formats the console output of a finished run: verdict, tables and, if wanted, answers."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.data.conversation import transcript
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation.tables import tables
from pmc_jax.report.collect import quality_of
from pmc_jax.report.verdict import verdict

_EXAMPLES = 3


def final_tables(results: dict[str, Any], evaluation: Mapping[str, Any] | None = None) -> str:
    """Formats the final output of a run.

    The verdict comes first (see `report.verdict`). The tables show the evaluation, or else the
    quality before and after unlearning, as far as there are true answers to measure it, and the
    seconds per stage.

    Args:
        results: contents of results.json.
        evaluation: contents of evaluation.json; None if no measures were computed.
    """
    before, after = results["before"], results["after"]
    rows = [
        (name, before[key], after[key])
        for name, key in (("unlearn quality", "unlearn_quality"), ("utility", "utility"))
    ]
    rows += [
        (f"{name} ROUGE-L recall", split["rougeL_recall"], after["splits"][name]["rougeL_recall"])
        for name, split in before["splits"].items()
    ]
    seconds = {k: f"{v:.1f}" for k, v in results["seconds"].items()}
    rows = [row for row in rows if None not in row]
    quality = [table(rows, ("measure", "before", "after"))] if rows else []
    return "\n\n".join(
        (
            _verdict(results, evaluation),
            *(quality if evaluation is None else [tables(evaluation)]),
            table(list(seconds.items()), ("stage", "seconds")),
        )
    )


def _verdict(results: dict[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    """Formats the verdict as lines of at most 100 columns."""
    run = {
        "forgotten": results["forgotten"],
        "heldout": results["heldout"],
        "quality": quality_of(results, evaluation),
        "evaluation": evaluation,
        "settings": results["config"],
    }
    found = verdict(run)
    lines = [
        f"Verdict: {found['text']}",
        "",
        *(f"{one['level']}: {one['result']}. {one['meaning']}" for one in found["levels"]),
        *found["notes"],
        "",
        f"What it cost: {found['cost']}",
        "",
        "Not measured:" if found["not_measured"] else "Every measure was computed.",
        *(f"- {one['what']}: {one['reason']}" for one in found["not_measured"]),
    ]
    return "\n".join(
        textwrap.fill(line, 100, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def examples(sets: Sequence[EvalSet], before: dict[str, str], after: dict[str, str]) -> str:
    """Formats up to three forget questions and three retain questions with their answers.

    Args:
        sets: evaluation sets; only those named `forget` and `retain` are read.
        before, after: answer before and after unlearning, by question.
    """
    lines = []
    for split in (s for s in sets if s.name in ("forget", "retain")):
        for question in split.questions[:_EXAMPLES]:
            lines += [f"[{split.name}] {transcript(question)}"]
            lines += [f"  before: {before.get(question)}"]
            lines += [f"  after:  {after[question]}"]
    return "\n".join(lines)
