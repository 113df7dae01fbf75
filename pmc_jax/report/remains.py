"""Lists what is left to do and to know after a run.

The lists are copies of the data, tests that were not made, claims that the numbers do not support,
and who used the true answers.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.method import TARGET_BASED
from pmc_jax.evaluation.tables import without_numbers
from pmc_jax.report import methods
from pmc_jax.report.texts import MEASURE_TEXTS, TEXTS

NOT_REQUESTED = "evaluate.measures does not name them"

Run = Mapping[str, Any]


def to_delete(
    folder: str, entries: Sequence[str], inputs: Mapping[str, str], comparison: str | None
) -> dict[str, Any]:
    """Returns what may still reveal the data and has to be deleted.

    Args:
        folder: folder of the run; unused if `entries` is empty.
        entries: names of what can reveal the data in the folder (see `manifest.private_entries`).
        inputs: path of each existing input that may reveal the data, by name.
        comparison: folder of the comparison that the run belongs to, if the folder can reveal the
            data, or else None.

    Returns:
        A dictionary with two keys.
        `by_command` is a list of dictionaries, each with a `command` and a `text` that says what
        the command deletes.
        `by_hand` is a list of texts about the rest.
    """
    texts, commands = TEXTS["to_delete"], {}
    if entries:
        text = texts["run"].format(folder=folder, entries=", ".join(entries))
        commands[f"pmc unlearn {shlex.quote(folder)} --purge"] = text
    if comparison:
        commands["pmc compare COMPARE.yaml --purge"] = texts["comparison"].format(folder=comparison)
    rest = []
    if "model" in inputs:
        rest.append(texts["model"].format(model=inputs["model"]))
    if data := sorted({path for name, path in inputs.items() if name != "model"}):
        rest.append(texts["data"].format(data=", ".join(data)))
    return {
        "by_command": [{"command": name, "text": text} for name, text in commands.items()],
        "by_hand": [*rest, texts["derived"], texts["copies"]],
    }


def not_tested(run: Run) -> dict[str, str]:
    """Returns measure -> reason for each measure that was not computed or has no number."""
    evaluation = run["evaluation"] or {}
    reasons = evaluation.get("not_computed", {}) | without_numbers(evaluation)
    done = evaluation.get("measures", {}).keys() - reasons.keys()
    return {name: reasons.get(name, NOT_REQUESTED) for name in MEASURE_TEXTS if name not in done}


def true_answers(run: Run) -> list[str]:
    """Returns sentences on who used the true answers to the forget questions, and for what."""
    texts, settings = TEXTS["true_answers"], run["settings"]
    data = ", ".join(source["path"] for source in settings["finetune"]["data"])
    answers = settings["data"]["forget_answers"]["path"]
    evaluated = "forget" in settings["data"]["evaluate"]
    how = "not_by_method"
    if methods.method(run) in TARGET_BASED:
        how = "by_method"
    elif methods.samples(run):
        how = "own_answers"
    return [
        texts["finetuned" if data else "given"].format(data=data),
        texts[how].format(
            method=methods.label(run), data=answers or "data.forget_answers", overlap=_overlap(run)
        ),
        texts["evaluated" if evaluated else "not_evaluated"],
    ]


def _overlap(run: Run) -> str:
    share = run["rounds"][0].get("overlap_with_original") if run["rounds"] else None
    percent = "" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
    return f" {TEXTS['true_answers']['overlap'].format(share=percent)}" if percent else ""


def not_claimed(run: Run) -> list[str]:
    """Returns claims that the numbers of a report do not support."""
    texts = TEXTS["not_claimed"]
    claims = [texts["weights"], texts["training"], *texts["always"]]
    if methods.samples(run):
        claims.append(texts["answers"][run["settings"]["pmc"]["answer"]])
    if run["settings"]["evaluate"]["keep_best"]:
        claims.append(texts["chosen"])
    return claims + ([texts["no_reference"]] if run["quality"]["reference"] is None else [])
