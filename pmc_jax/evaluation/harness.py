"""Runs tasks on models, stores the resulting rows, and computes measures from the rows.

The harness loads models one after another and appends rows to `NAME.TASK.jsonl` as soon as they are
computed. The first line of this file holds a digest of everything on which the rows depend, further
lines hold rows by key, and the last line of a finished task lists all keys. If the stored digest
matches, the evaluation resumes from the existing rows; otherwise the harness discards them.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.digests import data_digest, settings_digest
from pmc_jax.artifacts.log import progress, read_objects, rewrite_log
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.data import DataConfig
from pmc_jax.config.run import EvaluateConfig
from pmc_jax.config.schema import flatten
from pmc_jax.data.records import EvalSet
from pmc_jax.distributed import multihost, preemption
from pmc_jax.evaluation.context import EvalContext, LoadedModel, ModelRef
from pmc_jax.evaluation.registry import MEASURES
from pmc_jax.evaluation.tables import headline
from pmc_jax.evaluation.tasks import TASKS

SCHEMA = 1


def measure_quality(
    model: LoadedModel,
    sets: Sequence[EvalSet],
    settings: EvaluateConfig,
    data: DataConfig,
    questions: Sequence[str],
    recorder: Recorder,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Computes unlearn quality, utility and their parts for a model during a run.

    Args:
        model: model to measure. It generates only answers that its cache does not contain.
            `model.name` labels the progress bar.
        sets: evaluation sets to measure on.
        settings: settings of the evaluation. `measures` is ignored.
        data: settings of the data. Only `words` is read.
        questions: questions to answer in this order: those of `sets`, and others whose answers the
            caller needs.
        recorder: stopwatch and progress bars.

    Returns:
        The numbers of `quality.of_recalls`, and question -> greedy answer.

    Raises:
        UserError: a question is too long, or a true answer has no word that ROUGE can compare.
        Preempted: the process was asked to stop.
    """
    answers = model.greedy(questions, settings, recorder)
    settings = dataclasses.replace(settings, measures=())
    context = EvalContext({s.name: s for s in sets}, None, settings, data)
    recorder = dataclasses.replace(recorder, bars=False)
    evaluation = evaluate(
        {"after": ModelRef("", "", lambda name: model)}, context, recorder=recorder
    )
    return headline(evaluation, "after"), answers


def evaluate(
    models: Mapping[str, ModelRef],
    context: EvalContext,
    *,
    folder: Path | None = None,
    recorder: Recorder | None = None,
) -> dict[str, Any]:
    """Computes `quality` and the measures in the settings for all models.

    Args:
        models: models by name. Some measures compare each of them with the models `before` and
            `reference`, if these are given.
        context: data and settings that all models share.
        folder: folder that stores the rows, so that an interrupted evaluation can resume; None
            stores nothing.
        recorder: stopwatch and progress bars; None uses new ones.

    Returns:
        The contents of `evaluation.json` (see docs/reference/evaluation.md).

    Raises:
        UserError: a text is too long or cannot be read, or the relearning attack fails.
        Preempted: the process was asked to stop; the same call resumes.
    """
    recorder = recorder or Recorder()
    wanted = {name: MEASURES[name] for name in ("quality", *context.settings.wanted)}
    tasks = list(dict.fromkeys(task for measure in wanted.values() for task in measure.tasks))
    begin = recorder.watch.seconds()["total"]
    rows = {
        name: _collect(name, model, context, tasks, folder, recorder)
        for name, model in models.items()
    }
    missing = {name: why for name, m in wanted.items() if (why := m.missing_inputs(context))}
    computed = {name: measure for name, measure in wanted.items() if name not in missing}
    compared_with = rows.get("reference"), rows.get("before")
    return {
        "schema": SCHEMA,
        "models": {n: _identity(m) for n, m in models.items()},
        "never_saw": [_identity(m) for m in context.never_saw],
        "measures": {
            name: {
                model: dataclasses.asdict(measure.summarise(own, *compared_with, context.settings))
                for model, own in rows.items()
            }
            for name, measure in computed.items()
        },
        "not_computed": missing,
        "descriptions": {
            name: {key: dataclasses.asdict(text) for key, text in measure.descriptions.items()}
            for name, measure in computed.items()
        },
        "settings": dataclasses.asdict(context.settings) | {"seed": context.seed},
        "words": context.words,
        "seconds": recorder.watch.seconds()["total"] - begin,
        "versions": run_folder.versions(),
    }


def _identity(model: ModelRef) -> dict[str, str]:
    return {"path": model.path, "sha256": model.sha256}


def _collect(
    name: str,
    model: ModelRef,
    context: EvalContext,
    tasks: Sequence[str],
    folder: Path | None,
    recorder: Recorder,
) -> dict[str, dict[str, Any]]:
    """Computes the missing rows of one model and returns all its rows as task -> key -> row."""
    loaded, rows = None, {}
    for task_name in tasks:
        task = TASKS[task_name]
        path = None if folder is None else folder / f"{name}.{task_name}.jsonl"
        store = _Store(path, _digest(task_name, model.sha256, context))
        if store.complete:
            rows[task_name] = store.rows
            continue
        loaded = loaded or model.load(name)
        keys = task.keys(loaded, context)
        left = [key for key in keys if key not in store.rows]
        bar = progress(len(keys), f"{name}: {task_name}", "row", enabled=recorder.bars)
        with bar, recorder.watch.stage("evaluate"):
            bar.update(len(keys) - len(left))
            for new in task.run(loaded, context, left) if left else ():
                store.add(new)
                bar.update(len(new))
                preemption.check()
        rows[task_name] = {key: store.rows[key] for key in keys}
        store.finish(keys)
    return rows


def _digest(task_name: str, model: str, context: EvalContext) -> str:
    """Returns a digest of everything on which the rows of a task depend."""
    settings, task = flatten(dataclasses.asdict(context.settings)), TASKS[task_name]
    sets = [context.sets[name] for name in task.sets if name in context.sets]
    prompts, data = dataclasses.asdict(context.model), context.data
    lengths = {"lengths": [data.max_length, data.long_rows]} if task_name == "relearned" else {}
    return settings_digest(
        {
            "task": task_name,
            "schema": SCHEMA,
            "model": model,
            "prompts": {n: value for n, value in prompts.items() if n not in ("path", "config")},
            "sets": {s.name: data_digest(s) for s in sets},
            "retain": None if context.retain is None else data_digest(context.retain),
            "settings": {
                name: value for name, value in settings.items() if name.startswith(task.settings)
            },
            "seed": context.seed,
            "text": context.text,
            "words": context.words,
            **lengths,
            **({"never_saw": [m.sha256 for m in context.never_saw]} if task.never_saw else {}),
        }
    )


class _Store:
    """Store of the rows of one task and one model, in memory and, if a path is given, in a file.

    Attributes:
        rows: rows by key.
        complete: whether all rows are present.
    """

    def __init__(self, path: Path | None, digest: str):
        self.rows: dict[str, Any] = {}
        self.complete = False
        self._path = path
        if path is not None:
            for line in multihost.broadcast(lambda: _resumed(path, digest)):
                self.rows |= line.get("rows", {})
                # `_resumed` has removed damaged lines, so the row of a key may be missing.
                keys = line.get("complete")
                if keys is not None and self.rows.keys() >= set(keys):
                    self.rows, self.complete = {key: self.rows[key] for key in keys}, True

    def add(self, rows: Mapping[str, Any]) -> None:
        self.rows |= rows
        self._write({"rows": rows})

    def finish(self, keys: Sequence[str]) -> None:
        """Records that all rows are present, and their order."""
        self.complete = True
        self._write({"complete": list(keys)})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is not None and multihost.is_first():
            with self._path.open("ab") as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _resumed(path: Path, digest: str) -> list[dict[str, Any]]:
    """Returns the stored lines of a file, and removes damaged lines from the file.

    All lines are removed if the first line does not hold the digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = read_objects(path, _is_stored) if path.exists() else []
    lines = lines[1:] if lines and lines[0].get("digest") == digest else []
    rewrite_log(path, [{"digest": digest}, *lines])
    return lines


def _is_stored(line: dict[str, Any]) -> bool:
    """Returns whether an object has the form of a line of stored rows."""
    rows, complete = line.get("rows", {}), line.get("complete", [])
    is_rows = isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())
    return is_rows and isinstance(complete, list) and all(isinstance(key, str) for key in complete)
