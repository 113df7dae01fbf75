"""The folders of finished runs -> the dictionary that `report.json` holds (docs/report.md).

Texts of questions and answers are taken only where asked for; all else is numbers, settings,
names and digests.
"""

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import plain
from pmc_jax.artifacts.log import read_log
from pmc_jax.errors import UserError
from pmc_jax.report import narrative

KIND, SCHEMA = "pmc_jax report", 1

_STEP_KEYS = ("step", "selected_score", "sampled_score", "without_replacement", "collapse_loss")
_STEP_KEYS += ("retain_loss", "unlearn_quality", "utility", "unlearning_seconds")
_QUESTION_KEYS = ("id", "score", "has_replacement", "overlap")
_TEXT_KEYS = ("question", "original", "stored", "final")
_QUALITY_KEYS = ("unlearn_quality", "utility", "utility_splits", "splits")


def collect(
    folders: Sequence[str | Path], *, text: bool, results: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The report of some runs.

    Args:
        folders: of finished runs.
        text: whether questions and answers are taken from logs that hold them.
        results: of the only run, where its `results.json` is not written yet.

    Returns:
        What `report.json` holds.

    Raises:
        UserError: a folder that is not that of a finished run, or files in it that are damaged.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = [_run(path, name, text, results) for path, name in zip(paths, names, strict=True)]
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "version": importlib.metadata.version("pmc_jax"),
        "text": text,
        "runs": runs,
    }


def _run(folder: Path, name: str, text: bool, results: Mapping[str, Any] | None) -> dict[str, Any]:
    if results is None:
        results = _json(folder / run_folder.RESULTS)
        ended = datetime.fromtimestamp((folder / run_folder.RESULTS).stat().st_mtime, UTC)
    else:
        results, ended = plain(results), datetime.now(UTC)
    manifest, record = _json(folder / run_folder.MANIFEST), _json(folder / run_folder.RUN)
    evaluation = (
        _json(folder / run_folder.EVALUATION_RESULTS)
        if (folder / run_folder.EVALUATION_RESULTS).exists()
        else None
    )
    log = _log(folder / run_folder.LOG)
    try:
        run = {
            "name": name,
            "finished": ended.strftime("%Y-%m-%d %H:%M UTC"),
            "quality": _quality(results, evaluation),
            "questions_asked": _asked(log),
            "rounds": results["rounds"],
            "steps": _steps(log),
            "questions": _questions(log, text),
            "evaluation": evaluation,
            "seconds": results["seconds"],
            "tokens": results["tokens"],
            "devices": results["devices"],
            "versions": results["versions"],
            "seed": results["config"]["seed"],
            "settings": results["config"],
            "digests": {
                "inputs": manifest["inputs"],
                "data": record["digests"],
                "outputs": manifest["outputs"],
            },
        }
        run["over_forgetting"] = narrative.over_forgetting(run["quality"])
        run["summary"] = narrative.summary(run)
        run["not_tested"] = narrative.not_tested(run)
        run["not_claimed"] = narrative.not_claimed(run)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{folder}: its files are not those of a finished run of this version "
            f"({type(error).__name__}: {error}); pmc verify {folder} compares them"
        ) from error
    return run


def _quality(results: dict[str, Any], evaluation: dict[str, Any] | None) -> dict[str, Any]:
    """Unlearn quality, utility and recalls: before, after, and of the reference or None."""
    moments = {
        moment: {key: results[moment].get(key) for key in _QUALITY_KEYS}
        for moment in ("before", "after")
    }
    measured = (evaluation or {}).get("measures", {}).get("quality", {}).get("reference")
    if not measured or not measured["values"]:
        return moments | {"reference": None}
    values = measured["values"]
    splits = results["before"]["splits"]
    found = {name: values[name] for name in splits if name in values}
    reference = {
        "unlearn_quality": values.get("unlearn_quality"),
        "utility": values.get("utility"),
        "utility_splits": results["before"]["utility_splits"],
        "splits": {name: {"rougeL_recall": recall} for name, recall in found.items()},
    }
    return moments | {"reference": reference}


def _asked(log: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Split -> questions that were asked before and after."""
    counts: dict[str, int] = {}
    for row in log:
        if row["kind"] == "answer":
            counts[row["split"]] = counts.get(row["split"], 0) + 1
    return counts


def _steps(log: Iterable[dict[str, Any]]) -> list[dict[str, float]]:
    rows = (row for row in log if row["kind"] == "scalars" and row.get("step") is not None)
    return [{key: row[key] for key in _STEP_KEYS if row.get(key) is not None} for row in rows]


def _questions(log: Iterable[dict[str, Any]], text: bool) -> list[dict[str, Any]]:
    """Unresolved ones first, then those whose final answer is most like the original."""
    keys = _QUESTION_KEYS + (_TEXT_KEYS if text else ())
    rows = [
        {key: row.get(key) for key in keys if key in row or key in _QUESTION_KEYS}
        for row in log
        if row["kind"] == "question"
    ]
    return sorted(rows, key=lambda row: (bool(row["has_replacement"]), -(row["overlap"] or 0.0)))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); pmc report needs the folder of a "
            "finished pmc unlearn"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is no JSON; pmc verify {path.parent} compares files") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no JSON object; pmc verify {path.parent} compares files")
    return content


def _log(path: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in read_log(path) if "kind" in row]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
