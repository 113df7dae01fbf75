"""Writes and verifies the manifest of a finished run, and removes files that can reveal the data.

The manifest lists the SHA-256 digest of each file. Checkpoints hold the original answers and the
replacement answers, which a resumed run needs and which may be personal data. Other files of a run
hold such data only if `log.text` is true.
"""

import hashlib
import os
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pmc_jax.artifacts import run_files, run_folder
from pmc_jax.artifacts.digests import file_digest
from pmc_jax.artifacts.files import json_text, write_json
from pmc_jax.artifacts.log import read_log, rewrite_log
from pmc_jax.config.reading import read_json
from pmc_jax.errors import UserError, system_errors
from pmc_jax.models.remote import is_address

T = TypeVar("T")

_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}

# In a log line about a question, the values of these keys quote no text.
_WITHOUT_TEXT = ("kind", "split", "id", "score", "overlap", "true_overlap")
_WITHOUT_TEXT += ("said", "sampled", "elicited", "items", "limit", "is_empty", "is_cut")


def write(
    folder: Path,
    inputs: Mapping[str, Mapping[str, str]],
    results: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Writes `manifest.json` before `results.json` marks the run as finished.

    Args:
        folder: folder of the run, whose logs and checkpoints must be closed.
        inputs: for each input by name, a mapping with its `path` and its SHA-256 digest `sha256`.
        results: contents that `results.json` will have.
        record: contents that `run.json` will have.

    Raises:
        UserError: a file cannot be read or written.
    """
    outputs = _outputs(folder)
    for name, content in ((run_files.RESULTS, results), (run_files.RUN, record)):
        text = json_text(content).encode()
        outputs[name] = hashlib.sha256(text).hexdigest()
    rounds = results["rounds"]
    write_json(
        folder / run_files.MANIFEST,
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


def record(folder: Path, names: Collection[str]) -> None:
    """Updates the digests of some files and folders in the manifest of a run.

    A command calls this function after it has rewritten outputs of a finished run. If the folder
    has no manifest, nothing changes.

    Args:
        folder: folder of the run.
        names: names of the changed files and subfolders. A subfolder may be empty.
    """
    if (folder / run_files.MANIFEST).is_file():
        manifest = _read(folder)
        outputs = _without(manifest["outputs"], names) | _outputs(folder, names)
        write_json(folder / run_files.MANIFEST, manifest | {"outputs": outputs})


def verify(folder: str | Path) -> tuple[int, list[str], list[str]]:
    """Compares the files of a finished run with its manifest.

    Every file, link, named pipe, socket and device in the folder must be in the manifest. Modes and
    times are not compared.

    Returns:
        The number of unchanged files and inputs, a list with one line for each that is changed,
        missing or new, and a list with one line for each missing input that the user had to delete
        after `purge`.

    Raises:
        UserError: the manifest is missing or invalid, or a file cannot be read.
    """
    folder = Path(folder)
    manifest = _read(folder)
    present, recorded = _outputs(folder), manifest["outputs"]
    faults = [f"missing: {name}" for name in sorted(recorded.keys() - present.keys())]
    faults += [
        f"new: {name}{_kind_of(present[name])}" for name in sorted(present.keys() - recorded.keys())
    ]
    both = sorted(recorded.keys() & present.keys())
    changed = [name for name in both if recorded[name] != present[name]]
    faults += [f"changed: {name}{_kind_of(present[name])}" for name in changed]
    good = len(both) - len(changed)
    inputs, deleted = manifest["inputs"], []
    # Several settings may name the same file.
    private = {source["path"] for name, source in inputs.items() if knows_the_data(name)}
    excused = private if is_purged(folder) else ()
    for name, source in inputs.items():
        path = source["path"]
        if not is_address(path) and not os.path.exists(path):
            (deleted if path in excused else faults).append(f"input missing: {name} ({path})")
        elif file_digest(path) != source["sha256"]:
            faults.append(f"input changed: {name} ({path})")
        else:
            good += 1
    return good, faults, deleted


def changes(folder: Path, name: str) -> list[str]:
    """Returns the paths of a file or subfolder that are changed, missing or new (see `verify`)."""
    recorded, present = _read(folder)["outputs"], _outputs(folder, [name])
    recorded = {path: digest for path, digest in recorded.items() if path.split("/")[0] == name}
    paths = sorted(recorded.keys() | present.keys())
    return [path for path in paths if recorded.get(path) != present.get(path)]


def read_results(folder: Path) -> dict[str, Any] | None:
    """Returns the contents of `results.json`, or None if the folder holds no finished run.

    Raises:
        UserError: the file cannot be read, or a value that other commands need is missing.
    """
    path = folder / run_files.RESULTS
    fix = f"Run pmc verify {folder} to see which files have changed."
    if not path.is_file():
        return None
    content = read_json(path, hint=fix)
    needed = {"step", "total_steps", "stopped", "best", "forgotten"}
    if missing := sorted(needed - content.keys()):
        raise UserError(f"{path}: the file has no {' and no '.join(missing)}. {fix}")
    return content


def notes(folder: str | Path) -> list[str]:
    """Returns lines that report what a comparison of the files with the manifest cannot detect."""
    folder = Path(folder)
    digest = file_digest(folder / run_files.MANIFEST)
    lines = [f"The SHA-256 digest of manifest.json itself is {digest}"]
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        lines.append(
            f"{folder}: other users can open the folder (mode {mode:o}). To prevent this, run: "
            f"chmod go= {shlex.quote(str(folder))}"
        )
    return lines


_PRIVATE = ("forget", "forbidden", "finetune", "names_file")


def knows_the_data(name: str) -> bool:
    """Returns whether an input, such as the target model, may reveal the data to forget.

    Args:
        name: name of the input in the manifest.
    """
    return name == "model" or any(part in name for part in _PRIVATE)


def present_inputs(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Returns name -> path for the existing inputs that may reveal the data to forget."""
    paths = {name: source["path"] for name, source in inputs.items() if knows_the_data(name)}
    return {n: path for n, path in paths.items() if is_address(path) or os.path.exists(path)}


def model_path(folder: Path) -> str | None:
    """Returns the absolute path or the address of the model from which a finished run started.

    The result is None if the folder has no manifest or the manifest names no model.
    """
    if not (folder / run_files.MANIFEST).is_file():
        return None
    return _read(folder)["inputs"].get("model", {}).get("path")


def is_purged(folder: str | Path) -> bool:
    """Returns whether `purge` has removed the answers from the folder of a finished run."""
    return bool(_read(Path(folder)).get("purged"))


def private_entries(folder: Path) -> list[str]:
    """Returns the names of the files and folders that `purge` removes from the folder of a run."""
    names = [run_files.CHECKPOINTS, run_files.EVALUATION, run_files.TARGET_CHECKPOINTS]
    names += run_files.step_models(folder)
    if (folder / run_files.TARGET / run_files.TARGET_MARK).is_file():
        names.append(run_files.TARGET)  # A target without this file was not made by pmc.
    return [name for name in names if (folder / name).exists()]


def purge(folder: str | Path) -> list[str]:
    """Removes the files of `private_entries` and all logged texts from a finished run's folder.

    The caller must have locked the folder with `run_folder.locked` or `run_folder.claim`.

    Returns:
        The names of the removed files and folders.

    Raises:
        UserError: the run is not finished, or a file cannot be removed or written.
    """
    folder = Path(folder)
    manifest = _read(folder)
    if not (folder / run_files.RESULTS).exists():
        raise UserError(
            f"{folder}: nothing was deleted. The run is not finished and needs its checkpoints to "
            "resume. Finish the run first."
        )
    removed = private_entries(folder)
    run_folder.remove(folder, removed)
    _remove_texts(folder / run_files.LOG)
    # Other files keep their old digests, so that `verify` still reports changes in these files.
    names = (run_files.CHECKPOINTS, run_files.TARGET)
    gone = [*removed, *(name for name in names if not (folder / name).exists())]
    outputs = _without(manifest["outputs"], gone)
    outputs[run_files.LOG] = file_digest(folder / run_files.LOG)
    write_json(folder / run_files.MANIFEST, manifest | {"outputs": outputs, "purged": True})
    return removed


def drop(folder: str | Path, names: Sequence[str]) -> None:
    """Removes outputs of a finished run from its folder and from its manifest.

    Raises:
        UserError: the manifest cannot be read or written, or an output cannot be removed.
    """
    folder = Path(folder)
    manifest = _read(folder)
    outputs = _without(manifest["outputs"], names)
    write_json(folder / run_files.MANIFEST, manifest | {"outputs": outputs})
    run_folder.remove(folder, names)


def _without(outputs: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    """Returns the outputs except the files and folders with the given names."""
    return {path: value for path, value in outputs.items() if path.split("/")[0] not in names}


def _remove_texts(log: Path) -> None:
    """Removes the texts of questions and answers from a log."""
    with system_errors(f"{log}: the texts cannot be removed", "Check the disk."):
        rows = [
            {key: row[key] for key in _WITHOUT_TEXT if key in row}
            if row["kind"] in ("answer", "question")
            else row
            for row in read_log(log)
        ]
        rewrite_log(log, rows)


def _outputs(folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
    """Returns the digest of each file, link and special file but the manifest, by relative path.

    The digest of a file is the SHA-256 of its content. No other entry is opened. The digest of a
    link is "link" and the SHA-256 of its target path. A word such as "socket" replaces the digest
    of any other entry.

    Args:
        folder: folder of the run.
        names: names of the files and folders to include; None includes all.

    Raises:
        UserError: a file or a folder cannot be read.
    """
    fix = "Check the permissions of its files and subfolders."
    with system_errors(f"{folder}: an entry of the folder cannot be read", fix):
        paths = {str(path.relative_to(folder)): path for path in _entries(folder)}
        top = {name: name.split("/")[0] for name in paths}
        return {
            name if name.isprintable() else ascii(name)[1:-1]: _digest(path)
            for name, path in sorted(paths.items())
            if name != run_files.MANIFEST and (names is None or top[name] in names)
        }


def _entries(folder: Path) -> Iterator[Path]:
    """Yields every file, link and special file below a folder. Links are not followed."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in (*links, *files))


def _digest(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        return file_digest(path)
    if stat.S_ISLNK(mode):
        return f"link {hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()}"
    return _KINDS.get(stat.S_IFMT(mode), "device")


def _kind_of(digest: str) -> str:
    """Returns a clause such as ", which is a link" for an entry that is not a file, else ""."""
    kind = digest.split(" ")[0] if digest.startswith("link") else digest
    return f", which is a {kind}" if kind in ("link", "device", *_KINDS.values()) else ""


def _read(folder: Path) -> dict[str, Any]:
    path = folder / run_files.MANIFEST
    hint = "Pass the folder of a finished run."
    manifest = read_json(path, hint=hint)
    try:
        sources = manifest["inputs"].values()
        texts = [source[key] for source in sources for key in ("path", "sha256")]
        is_complete = all(isinstance(text, str) for text in texts)
        if not is_complete or not isinstance(manifest["outputs"], dict):
            raise TypeError
    except (LookupError, TypeError, AttributeError):
        raise UserError(f"{path}: the file is not a valid manifest. {hint}") from None
    return manifest
