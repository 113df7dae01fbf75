"""Formats the console output of a finished run: tables and, if the settings allow it, answers."""

from collections.abc import Sequence
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.data.conversation import transcript
from pmc_jax.data.records import EvalSet

_EXAMPLES = 3


def final_tables(results: dict[str, Any]) -> str:
    """Formats the final output of a run.

    The tables show the quality before and after unlearning, and the seconds per stage. A sentence
    states how many questions are forgotten.
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
    return "\n\n".join(
        (
            table(rows, ("measure", "before", "after")),
            table(list(seconds.items()), ("stage", "seconds")),
            results["forgotten"]["headline"],
        )
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
