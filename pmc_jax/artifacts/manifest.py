"""`manifest.json`: what a finished run read and wrote, by SHA-256; and what `--purge` removes.

Checkpoints hold the people's data that a resumed run needs: the model's original answers and the
stored ones. Nothing else that a run writes holds any, unless `log.text` is set.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import json_text, read_json, write_json
from pmc_jax.artifacts.log import read_log, rewrite_log
from pmc_jax.errors import UserError, system_errors
from pmc_jax.models.remote import is_address

T = TypeVar("T")

# Keys of a log line about a question that quote nothing.
_WITHOUT_TEXT = ("kind", "split", "id", "score", "has_replacement", "overlap")


def write(
    folder: Path, inputs: Mapping[str, Mapping[str, str]], results: Mapping[str, Any]
) -> None:
    """Writes `manifest.json`, before `results.json` ends the run.

    Args:
        folder: of the run; its logs and checkpoints are closed.
        inputs: name -> `path` and `sha256`, see `run_folder.file_digest`.
        results: what `results.json` will hold.

    Raises:
        UserError: a file cannot be read or written.
    """
    text = json_text(results).encode("utf-8", "surrogatepass")
    outputs = _outputs(folder) | {run_folder.RESULTS: hashlib.sha256(text).hexdigest()}
    rounds = results["rounds"]
    write_json(
        folder / run_folder.MANIFEST,
        {
            "inputs": inputs,
            "outputs": dict(sorted(outputs.items())),
            "settings": results["config"],
            "seed": results["config"]["seed"],
            "versions": results["versions"],
            "devices": results["devices"],
            "counts": {"steps": rounds[-1]["step"] if rounds else 0, **results["tokens"]},
        },
    )


def verify(folder: str | Path) -> tuple[int, list[str]]:
    """Compares a finished run with its manifest.

    Returns:
        How many files are unchanged, and a line for each other one.

    Raises:
        UserError: the manifest is missing, or the file is not one.
    """
    folder = Path(folder)
    manifest = _read(folder)
    present, recorded = _outputs(folder), manifest["outputs"]
    faults = [f"missing: {name}" for name in sorted(recorded.keys() - present.keys())]
    faults += [f"new: {name}" for name in sorted(present.keys() - recorded.keys())]
    both = sorted(recorded.keys() & present.keys())
    changed = [name for name in both if recorded[name] != present[name]]
    faults += [f"changed: {name}" for name in changed]
    good = len(both) - len(changed)
    for name, source in manifest["inputs"].items():
        path = source["path"]
        if not is_address(path) and not os.path.exists(path):
            faults.append(f"input missing: {name}, {path}")
        elif run_folder.file_digest(path) != source["sha256"]:
            faults.append(f"input changed: {name}, {path}")
        else:
            good += 1
    return good, faults


def purge(folder: str | Path) -> None:
    """Removes the answers that a finished run holds: its checkpoints, the texts in its log, and the
    rows of its evaluation, which may hold answers too.

    The caller has locked the folder (`run_folder.locked`, `run_folder.claim`).

    Raises:
        UserError: the run is not finished, or a file cannot be removed or written.
    """
    folder = Path(folder)
    manifest = _read(folder)
    if not (folder / run_folder.RESULTS).exists():
        raise UserError(f"{folder}: the run is not finished and needs its checkpoints")
    run_folder.remove(folder, (run_folder.CHECKPOINTS, run_folder.EVALUATION))
    _remove_texts(folder / run_folder.LOG)
    # Other files are not read again, so that `verify` still reports what has changed in them.
    outputs = _without(manifest["outputs"], (run_folder.CHECKPOINTS,))
    outputs[run_folder.LOG] = run_folder.file_digest(folder / run_folder.LOG)
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs})


def drop(folder: str | Path, names: Sequence[str]) -> None:
    """Removes outputs of a finished run, and their lines in its manifest.

    Raises:
        UserError: the manifest is missing, or something cannot be removed.
    """
    folder = Path(folder)
    manifest = _read(folder)
    outputs = _without(manifest["outputs"], names)
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs})
    run_folder.remove(folder, names)


def _without(outputs: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """The outputs that are not in these folders of a run."""
    return {path: value for path, value in outputs.items() if path.split("/")[0] not in names}


def _remove_texts(log: Path) -> None:
    """Removes questions and answers from a log."""
    with system_errors(f"{log}: cannot be written"):
        rows = [
            {key: row[key] for key in _WITHOUT_TEXT if key in row}
            if row["kind"] in ("answer", "question")
            else row
            for row in read_log(log)
        ]
        rewrite_log(log, rows)


def _outputs(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of the files of a run, without its record, its manifest and those
    that may be written again when it is finished.
    """
    left_out = (run_folder.MANIFEST, run_folder.RUN, *run_folder.MADE_AGAIN)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = _without({str(path.relative_to(folder)): path for path in files}, left_out)
    return {name: run_folder.file_digest(path) for name, path in paths.items()}


def _read(folder: Path) -> dict[str, Any]:
    path = folder / run_folder.MANIFEST
    hint = "only a finished run has a manifest"
    manifest = read_json(path, hint=hint)
    try:
        sources = manifest["inputs"].values()
        complete = all({"path", "sha256"} <= source.keys() for source in sources)
        if not complete or not isinstance(manifest["outputs"], dict):
            raise TypeError
    except (LookupError, TypeError, AttributeError):
        raise UserError(f"{path}: not the manifest of a run; {hint}") from None
    return manifest
