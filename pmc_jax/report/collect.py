"""Reads the folders of finished runs into the dictionary that `report.json` contains.

See docs/reference/report.md. The dictionary contains texts of questions and answers only on
request. Its other texts are settings, names, digests and sentences about the numbers.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_files
from pmc_jax.artifacts.files import plain
from pmc_jax.artifacts.log import read_log
from pmc_jax.config.evaluate import LEVELS
from pmc_jax.config.reading import read_json
from pmc_jax.errors import UserError, first_of
from pmc_jax.evaluation.forgotten import first_level
from pmc_jax.evaluation.tables import headline
from pmc_jax.report import narrative, remains, verdict

KIND, SCHEMA = "pmc_jax report", 1
# Values of another form in the files of a run raise these errors.
WRONG_VALUES = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError)

_STEP_KEYS = ("step", "selected_score", "sampled_score", "unreplaced", "collapse_loss")
_STEP_KEYS += ("retain_loss", "unlearn_quality", "utility", "unlearning_seconds")
_QUESTION_KEYS = ("id", "said", "sampled", "elicited", "items", "limit", "true_overlap", "overlap")
_TEXT_KEYS = ("question", "original", "stored", "final")
_QUALITY_KEYS = ("unlearn_quality", "utility", "utility_splits", "splits")


def collect(
    folders: Sequence[str | Path],
    *,
    text: bool,
    results: Mapping[str, Any] | None = None,
    request: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Reads one or more runs and returns the contents of their report.

    Args:
        folders: folders of finished runs.
        text: whether to include questions and answers, if a log has them.
        results: contents of the `results.json` of a single run, before that file is written.
        request: settings `report.request`. For a setting that is None, the value of the earlier
            report or else of the run is used.

    Returns:
        The contents of `report.json`.

    Raises:
        UserError: a folder holds no finished run, or a file in it is damaged.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = [_run(path, name, text, results) for path, name in zip(paths, names, strict=True)]
    for run in runs:
        run["request"] |= {name: value for name, value in (request or {}).items() if value}
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "version": importlib.metadata.version("pmc_jax"),
        "text": text,
        "runs": runs,
    }


def _run(folder: Path, name: str, text: bool, results: Mapping[str, Any] | None) -> dict[str, Any]:
    hint = (
        f"Pass the folder of a finished run, or run pmc verify {folder} to compare its files with "
        "its manifest."
    )
    if results is None:
        results = read_json(folder / run_files.RESULTS, hint=hint)
        ended = datetime.fromtimestamp((folder / run_files.RESULTS).stat().st_mtime, UTC)
    else:
        results, ended = plain(results), datetime.now(UTC)
    record_of_files = read_json(folder / run_files.MANIFEST, hint=hint)
    record = read_json(folder / run_files.RUN, hint=hint)
    path = folder / run_files.EVALUATION_RESULTS
    evaluation = read_json(path, hint=hint) if path.exists() else None
    try:
        log = read_log(folder / run_files.LOG)
    except OSError as error:
        raise UserError(
            f"{folder / run_files.LOG}: the file cannot be read ({error.strerror}). {hint}"
        ) from error
    try:
        run = {
            "name": name,
            "request": _request(folder, results["config"]),
            "finished": ended.strftime("%Y-%m-%d %H:%M UTC"),
            "quality": quality_of(results, evaluation),
            "questions_asked": Counter(row["split"] for row in log if row["kind"] == "answer"),
            "forgotten": results["forgotten"],
            "heldout": results["heldout"],
            "rounds": results["rounds"],
            "steps": _steps(log),
            "questions": _questions(log, text),
            "evaluation": evaluation,
            **{key: results[key] for key in ("seconds", "tokens", "devices", "versions")},
            "seed": results["config"]["seed"],
            "settings": results["config"],
            "digests": {
                "inputs": record_of_files["inputs"],
                "data": record["digests"],
                "outputs": {
                    name: digest
                    for name, digest in record_of_files["outputs"].items()
                    if name not in (run_files.REPORT, run_files.REPORT_JSON)
                },
            },
        }
        run["verdict"] = verdict.verdict(run)
        run["over_forgetting"] = narrative.over_forgetting(run["quality"])
        run["summary"] = narrative.summary(run)
        inputs = manifest.present_inputs(record_of_files["inputs"])
        run["to_delete"] = remains.to_delete(
            str(folder), _private(folder, log), inputs, _comparison(folder)
        )
        run["true_answers"] = remains.true_answers(run)
        run["not_tested"] = remains.not_tested(run)
        run["not_claimed"] = remains.not_claimed(run)
    except WRONG_VALUES as error:
        raise damaged([folder], error) from error
    return run


def _request(folder: Path, settings: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns the removal request that the earlier report of a run or its settings name."""
    request = dict(settings["report"]["request"])
    try:
        (earlier,) = read_json(folder / run_files.REPORT_JSON, hint="")["runs"]
        request |= {name: earlier["request"][name] for name in request if earlier["request"][name]}
    except (UserError, *WRONG_VALUES):
        pass  # There is no earlier report.
    return request


def damaged(folders: Sequence[str | Path], error: Exception) -> UserError:
    """Returns the error for files of runs that hold values of another form.

    Args:
        folders: folders of the runs.
        error: error that the first such value caused.
    """
    names = [str(folder) for folder in folders]
    one = names[0] if len(names) == 1 else "FOLDER"
    return UserError(
        f"{first_of(names, 3)}: the files are damaged, or another version of pmc wrote them "
        f"({type(error).__name__}). Run pmc verify {one} to compare the files with their manifest."
    )


def _private(folder: Path, log: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns phrases that name the files and texts of a run that can reveal the data."""
    entries = [f"{name}/" for name in manifest.private_entries(folder)]
    has_texts = any("question" in row for row in log if row["kind"] in ("answer", "question"))
    return entries + (["texts in log.jsonl and in the report"] if has_texts else [])


def _comparison(folder: Path) -> str | None:
    """Returns the folder of a run's comparison if the comparison may still contain answers.

    The target model and the stored rows of the evaluation may contain answers. The result is None
    if both have been removed, or if the run does not belong to a comparison.
    """
    runs = folder.resolve().parent
    target, rows = (
        runs.parent / run_files.TARGET / run_files.TARGET_MARK,
        runs.parent / run_files.EVALUATION,
    )
    knows = target.is_file() or any(rows.glob("before.*.jsonl"))
    return str(runs.parent) if runs.name == run_files.COMPARED_RUNS and knows else None


def quality_of(results: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns unlearn quality, utility and recalls of the models `before`, `after` and `reference`.

    The value of `reference` is None if no reference model was measured.
    """
    quality: dict[str, Any] = {
        moment: {key: results[moment].get(key) for key in _QUALITY_KEYS}
        for moment in ("before", "after")
    }
    measured = (evaluation or {}).get("measures", {}).get("quality", {})
    has_reference = measured.get("reference", {}).get("values")
    quality["reference"] = headline(evaluation, "reference") if has_reference else None
    return quality


def _steps(log: Iterable[dict[str, Any]]) -> list[dict[str, float]]:
    rows = (row for row in log if row["kind"] == "scalars" and row.get("step") is not None)
    return [{key: row[key] for key in _STEP_KEYS if row.get(key) is not None} for row in rows]


def _questions(log: Iterable[dict[str, Any]], text: bool) -> list[dict[str, Any]]:
    """Returns the forget questions in the order of the page.

    The first questions are those whose secret is told at the earliest level. Within a level, the
    questions with the most sampled answers that tell it come first, then those with the
    highest recalls.
    """
    rows = [
        {key: row.get(key) for key in _QUESTION_KEYS}
        | {"told_at": first_level(row)}
        | {key: row[key] for key in _TEXT_KEYS if text and key in row}
        for row in log
        if row["kind"] == "question"
    ]
    order = [*LEVELS, None]
    return sorted(
        rows,
        key=lambda row: (
            order.index(row["told_at"]),
            -(row["sampled"] or 0),
            -(row["true_overlap"] or 0.0),
            -(row["overlap"] or 0.0),
        ),
    )
