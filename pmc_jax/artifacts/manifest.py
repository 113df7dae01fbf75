"""Manifest of a finished run with the SHA-256 digests of its files, and removal of its answers.

Checkpoints hold the original answers and the replacement answers, which a resumed run needs and
which may be personal data. Other files of a run hold such data only if `log.text` is true.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.digests import file_digest
from pmc_jax.artifacts.files import json_text, read_json, write_json
from pmc_jax.artifacts.log import read_log, rewrite_log
from pmc_jax.errors import UserError, system_errors
from pmc_jax.models.remote import is_address

T = TypeVar("T")

# The values of these keys quote no text in a log line about a question.
_WITHOUT_TEXT = ("kind", "split", "id", "score", "overlap", "true_overlap")
_WITHOUT_TEXT += ("said", "sampled", "elicited", "items", "limit")


def write(
    folder: Path, inputs: Mapping[str, Mapping[str, str]], results: Mapping[str, Any]
) -> None:
    """Writes `manifest.json` before `results.json` marks the run as finished.

    Args:
        folder: folder of the run, whose logs and checkpoints must be closed.
        inputs: path and SHA-256 digest of each input by name, as `path` and `sha256`.
        results: later contents of `results.json`.

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


def verify(folder: str | Path) -> tuple[int, list[str], list[str]]:
    """Compares the files of a finished run with its manifest.

    Returns:
        The number of unchanged files, a list with one line for each changed, missing or new file,
        and a list with one line for each missing input that the user had to delete after `purge`.

    Raises:
        UserError: the manifest is missing or invalid.
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
    purged, deleted = is_purged(folder), []
    for name, source in manifest["inputs"].items():
        path = source["path"]
        if not is_address(path) and not os.path.exists(path):
            excused = purged and knows_the_data(name)
            (deleted if excused else faults).append(f"input missing: {name} ({path})")
        elif file_digest(path) != source["sha256"]:
            faults.append(f"input changed: {name} ({path})")
        else:
            good += 1
    return good, faults, deleted


def knows_the_data(name: str) -> bool:
    """Returns whether an input of a run may hold forgotten answers, as its model or its rows may.

    Args:
        name: name of the input in the manifest.
    """
    return name == "model" or any(part in name for part in ("forget", "forbidden", "finetune"))


def present_inputs(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns the paths, by name, of existing inputs that may hold forgotten answers."""
    paths = {name: source["path"] for name, source in inputs.items() if knows_the_data(name)}
    return {n: path for n, path in paths.items() if is_address(path) or os.path.exists(path)}


def is_purged(folder: str | Path) -> bool:
    """Returns whether `purge` has removed the answers from the folder of a finished run."""
    return bool(_read(Path(folder)).get("purged"))


def private_entries(folder: Path) -> list[str]:
    """Returns the names of files and folders of a run that may hold answers to the questions.

    `purge` removes these files and folders.
    """
    names = [run_folder.CHECKPOINTS, run_folder.EVALUATION, run_folder.TARGET_CHECKPOINTS]
    names += run_folder.step_models(folder)
    if (folder / run_folder.TARGET / run_folder.TARGET_MARK).is_file():
        names.append(run_folder.TARGET)  # A target without this file was not made by pmc.
    return [name for name in names if (folder / name).exists()]


def purge(folder: str | Path) -> list[str]:
    """Removes the answers from the folder of a finished run: `private_entries` and logged texts.

    The caller must have locked the folder with `run_folder.locked` or `run_folder.claim`.

    Returns:
        The names of the removed files and folders.

    Raises:
        UserError: the run is not finished, or a file cannot be removed or written.
    """
    folder = Path(folder)
    manifest = _read(folder)
    if not (folder / run_folder.RESULTS).exists():
        raise UserError(
            f"{folder}: the run is not finished, so it needs its checkpoints. Finish the run first."
        )
    removed = private_entries(folder)
    run_folder.remove(folder, removed)
    _remove_texts(folder / run_folder.LOG)
    # Other files keep their old digests, so that `verify` still reports changes in these files.
    names = (run_folder.CHECKPOINTS, run_folder.TARGET)
    gone = [name for name in names if not (folder / name).exists()]
    outputs = _without(manifest["outputs"], gone)
    outputs[run_folder.LOG] = file_digest(folder / run_folder.LOG)
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs, "purged": True})
    return removed


def drop(folder: str | Path, names: Sequence[str]) -> None:
    """Removes outputs of a finished run from its folder and from its manifest.

    Raises:
        UserError: the manifest is missing, or an output cannot be removed.
    """
    folder = Path(folder)
    manifest = _read(folder)
    outputs = _without(manifest["outputs"], names)
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs})
    run_folder.remove(folder, names)


def _without(outputs: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """Returns the outputs whose path does not begin with one of the names."""
    return {path: value for path, value in outputs.items() if path.split("/")[0] not in names}


def _remove_texts(log: Path) -> None:
    """Removes questions and answers from a log."""
    with system_errors(f"{log}: the file cannot be written", "Check the disk."):
        rows = [
            {key: row[key] for key in _WITHOUT_TEXT if key in row}
            if row["kind"] in ("answer", "question")
            else row
            for row in read_log(log)
        ]
        rewrite_log(log, rows)


def _outputs(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 digests of the files of a run by relative path.

    The record, the manifest and files that later commands may rewrite are excluded.
    """
    left_out = (run_folder.MANIFEST, run_folder.RUN, *run_folder.MADE_AGAIN)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    left_out += tuple(run_folder.step_models(folder))
    paths = _without({str(path.relative_to(folder)): path for path in files}, left_out)
    return {name: file_digest(path) for name, path in paths.items()}


def _read(folder: Path) -> dict[str, Any]:
    path = folder / run_folder.MANIFEST
    hint = "Name the folder of a finished run."
    manifest = read_json(path, hint=hint)
    try:
        sources = manifest["inputs"].values()
        complete = all({"path", "sha256"} <= source.keys() for source in sources)
        if not complete or not isinstance(manifest["outputs"], dict):
            raise TypeError
    except (LookupError, TypeError, AttributeError):
        raise UserError(f"{path}: the file is not the manifest of a run. {hint}") from None
    return manifest
