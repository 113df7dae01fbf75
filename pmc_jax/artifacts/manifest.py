"""`manifest.json`: what a finished run read and wrote, by SHA-256; and what `--purge` takes away.

Checkpoints hold what a resumed run needs of people's data: the model's original answers and the
stored ones. Nothing else that a run writes holds any, unless `log.text` was asked for.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import json_text, write_json
from pmc_jax.artifacts.log import read_log, rewrite_log
from pmc_jax.errors import UserError
from pmc_jax.models.remote import is_address

# Keys of a log line about a question that quote nothing.
_WITHOUT_TEXT = ("kind", "split", "id", "score", "has_replacement", "overlap")


def write(
    folder: Path, inputs: Mapping[str, Mapping[str, str]], results: Mapping[str, Any]
) -> None:
    """Writes `manifest.json`, before `results.json` ends the run.

    Args:
        folder: of the run; its logs and checkpoints are closed.
        inputs: name -> `path` and `sha256`, see `output.file_digest`.
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
        How many files are as they were, and a line for each other one.

    Raises:
        UserError: there is no manifest, or it is none.
    """
    folder = Path(folder)
    manifest = _read(folder)
    there, written = _outputs(folder), manifest["outputs"]
    faults = [f"missing: {name}" for name in sorted(written.keys() - there.keys())]
    faults += [f"new: {name}" for name in sorted(there.keys() - written.keys())]
    same = written.keys() & there.keys()
    faults += [f"changed: {name}" for name in sorted(same) if written[name] != there[name]]
    good = sum(written[name] == there[name] for name in same)
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
    """Removes the answers that a finished run keeps: its checkpoints, texts in its log, and rows of
    its evaluation, which may hold answers too.

    The caller holds the folder (`output.locked`, `output.claim`).

    Raises:
        UserError: the run is not finished, or cannot be written.
    """
    folder = Path(folder)
    manifest = _read(folder)
    if not (folder / run_folder.RESULTS).exists():
        raise UserError(f"{folder}: the run is not finished and needs its checkpoints")
    try:
        for name in (run_folder.CHECKPOINTS, run_folder.EVALUATION):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        _forget_texts(folder / run_folder.LOG)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be removed ({error.strerror})") from None
    # The other files are not read again: what changed since the run ended still shows.
    gone = f"{run_folder.CHECKPOINTS}/"
    outputs = {n: sha for n, sha in manifest["outputs"].items() if not n.startswith(gone)}
    outputs[run_folder.LOG] = run_folder.file_digest(folder / run_folder.LOG)
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs})


def drop(folder: str | Path, names: Sequence[str]) -> None:
    """Removes outputs of a finished run, and their lines in its manifest.

    Raises:
        UserError: there is no manifest, or something cannot be removed.
    """
    folder = Path(folder)
    manifest = _read(folder)
    outputs = {n: sha for n, sha in manifest["outputs"].items() if n.split("/")[0] not in names}
    write_json(folder / run_folder.MANIFEST, manifest | {"outputs": outputs})
    try:
        for name in names:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be removed ({error.strerror})") from None


def _forget_texts(log: Path) -> None:
    """Takes questions and answers out of a log."""
    rows = [
        {key: row[key] for key in _WITHOUT_TEXT if key in row}
        if row["kind"] in ("answer", "question")
        else row
        for row in read_log(log)
    ]
    rewrite_log(log, rows)


def _outputs(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of all files of a run but those that say how it stands, and those
    that may be made again when it is finished.
    """
    left_out = (run_folder.MANIFEST, run_folder.RUN, *run_folder.MADE_AGAIN)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder): path for path in paths}
    return {
        str(name): run_folder.file_digest(path)
        for name, path in names.items()
        if name.parts[0] not in left_out
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / run_folder.MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["inputs"], dict) or not isinstance(manifest["outputs"], dict):
            raise TypeError
        for source in manifest["inputs"].values():
            source["path"], source["sha256"]
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); only a finished run has a manifest"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{path}: is no manifest of a run") from None
    return manifest
