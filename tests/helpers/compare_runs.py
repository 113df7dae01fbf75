"""A small comparison on a tiny model, with records of its runs and of the questions it asks."""

import json
from pathlib import Path

import jax
import pytest
import tiny_runs as tiny

from pmc_jax.commands import unlearn_job
from pmc_jax.evaluation.context import LoadedModel

NAMES = ["pmc-seed0", "retain_only-seed0", "pmc-seed1", "retain_only-seed1"]
SETTINGS = {
    "run": "run.yaml",
    "settings": {
        "pmc.schedule.epochs": 6,
        "data.evaluate.forget": "choices.jsonl",
        "evaluate.leakage.num_samples": 8,
        "evaluate.corpus.path": "text.txt",
    },
    "max_seconds": 1000,
    "at_seconds": [1e-3],
    "seeds": [0, 1],
    "methods": {"pmc": {}, "retain_only": {}},
    "reference": {"data": "retain.jsonl"},
    "output": {"dir": "out"},
}


def write_inputs(folder: Path) -> None:
    tiny.write_inputs(folder, finetune=tiny.FINETUNE)
    wrong = [row["answer"] for row in tiny.RETAIN[:3]]
    rows = [row | {"perturbed_answer": wrong} for row in tiny.FORGET]
    tiny.write_rows(folder / "choices.jsonl", rows)
    (folder / "text.txt").write_text(" ".join(tiny.WORDS * 6))
    (folder / "compare.yaml").write_text(json.dumps(SETTINGS))


def compare(*arguments: str) -> tuple[tiny.Done, list[str], list[int]]:
    """Runs `pmc compare` in the current folder.

    Returns:
        The result of the command, the names of its runs, and the number of bytes on the devices at
        the start of each run.
    """
    ran, held = [], []

    def run(config, **how):
        ran.append(Path(config.output.dir).name)
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return original(config, **how)

    with pytest.MonkeyPatch.context() as patch:
        original = unlearn_job.run_unlearn
        patch.setattr(unlearn_job, "run_unlearn", run)
        done = tiny.pmc("compare", *arguments, config="compare.yaml")
    return done, ran, held


def noted_questions(patch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that collects the name of each model that is asked for greedy answers."""
    names, original = [], LoadedModel._ask

    def ask(model, *args):
        names.append(model.name)
        return original(model, *args)

    patch.setattr(LoadedModel, "_ask", ask)
    return names
