"""Claims the folder of a run, resumes an interrupted run and marks a run as finished.

A run writes `run.json` at its start and `results.json` at its end. A folder without `results.json`
holds an unfinished run, which resumes if the settings and the data are the same. Without
`overwrite`, a folder that holds a finished run or other files is rejected. `overwrite` removes only
files that a run wrote. The first process of a job claims the folder for all processes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.digests import relevant
from pmc_jax.artifacts.files import plain, write_json
from pmc_jax.config.differences import differences
from pmc_jax.config.reading import read_json
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, first_of, system_errors
from pmc_jax.models.remote import PARTIAL

try:
    import fcntl
except ImportError:  # Windows does not have this module, so folders are not locked on Windows.
    fcntl = None

_log = logging.getLogger(__name__)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "pmc_jax")


class OutputFolder(contextlib.AbstractContextManager):
    """Run folder that this job has claimed; the end of a `with` block releases the folder.

    Only the first process of a job locks the folder and writes to it.

    Attributes:
        path: absolute path of the folder.
        resuming: whether the folder holds an unfinished run with the same settings and data.
    """

    def __init__(
        self, path: Path, resuming: bool, record: dict[str, Any], lock: contextlib.ExitStack
    ):
        self.path = path
        self.resuming = resuming
        self._record = record
        self._lock = lock

    def finish(self, results: Mapping[str, Any]) -> None:
        """Writes `results.json` and marks the run as finished.

        Raises:
            UserError: the folder cannot be written to.
        """
        if not multihost.is_first():
            return
        write_json(self.path / run_files.RUN, self.finished_record)
        write_json(self.path / run_files.RESULTS, results)  # Nothing may be left to do after it.

    @property
    def finished_record(self) -> dict[str, Any]:
        """Contents of `run.json` after the end of the run."""
        return {**self._record, "status": "finished"}

    def close(self) -> None:
        self._lock.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def check(
    folder: str | Path,
    *,
    settings: Mapping[str, Any],
    digests: Mapping[str, str],
    overwrite: bool = False,
) -> bool:
    """Checks whether `claim` with the same arguments accepts the folder, and changes no files.

    The check does not try to write, so `claim` may still fail if the folder cannot be written.

    Returns:
        Whether the folder holds an unfinished run, which the new run would resume.

    Raises:
        UserError: `claim` would raise the same error.
    """
    record, path = {"settings": plain(settings), "digests": dict(digests)}, _absolute(folder)
    if multihost.broadcast(path.is_dir):
        with locked(folder):
            return multihost.broadcast(lambda: _is_resumed(path, record, overwrite))
    multihost.broadcast(lambda: _refuse_files(path))
    return False


def claim(
    folder: str | Path,
    *,
    settings: Mapping[str, Any],
    digests: Mapping[str, str],
    overwrite: bool = False,
) -> OutputFolder:
    """Claims a new folder for a run, or the folder of an unfinished run, which then resumes.

    All processes of a job call this function, and the first process decides for all processes.

    Args:
        folder: folder of the run, which is created with its parents if it does not exist.
        settings: settings of the run as nested dicts. Sections such as `output` and `log`, which do
            not change results, may differ from those of an unfinished run.
        digests: digests of the inputs by name.
        overwrite: whether to remove the files of an earlier run and start again. Other files and
            the folder `target` are kept.

    Raises:
        UserError: the path is a file, another process uses the folder, or the folder cannot be
            written. Without `overwrite`, the folder holds a finished run, an unfinished run with
            other settings or data, or files that pmc did not write. With `overwrite`, it is or
            contains the home folder or the current folder, or holds a run without `run.json`.
    """
    record = {"settings": plain(settings), "digests": dict(digests), "versions": versions()}

    def prepare() -> tuple[str, bool]:
        path = Path(folder).absolute()
        resuming = _is_resumed(path, record, overwrite)
        if resuming:
            _warn_of_versions(path, record)
        if overwrite:
            remove(path, _own(path))
        for rest in path.glob(f".*{PARTIAL}"):  # A killed process leaves such files.
            shutil.rmtree(rest, ignore_errors=True)
        write_json(path / run_files.RUN, {**record, "status": "running"})
        return str(path), resuming

    with contextlib.ExitStack() as lock:
        lock.enter_context(locked(folder, make=True))
        path, resuming = multihost.broadcast(prepare)
        return OutputFolder(Path(path), resuming, record, lock.pop_all())


@contextlib.contextmanager
def locked(folder: str | Path, *, make: bool = False) -> Iterator[None]:
    """Locks the folder of a run for this job inside a `with` block.

    The first process of a job takes the lock, and all other processes wait for the first process.

    Args:
        folder: folder of the run.
        make: whether to create the folder first.

    Raises:
        UserError: another job uses the folder, or the folder cannot be created or opened.
    """
    path = _absolute(folder)
    handles: list[int] = []

    def acquire() -> None:
        fix = "Check its permissions, or use another output folder."
        with system_errors(f"{folder}: the folder cannot be used", fix):
            if make:
                _make_folders(path)
            if fcntl is not None:
                handles.append(_lock(path))

    multihost.broadcast(acquire)
    try:
        yield
    finally:
        for handle in handles:
            os.close(handle)


@functools.cache
def versions() -> Mapping[str, str]:
    """Returns the installed versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def _is_resumed(path: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Returns whether the folder holds an unfinished run, which the new run resumes.

    Raises:
        UserError: the folder holds files that the new run must not change.
    """
    if overwrite:
        _refuse_shared_folders(path)
        _own(path)
        return False
    names = sorted(entry.name for entry in path.iterdir() if not _is_temporary(entry.name))
    # `pmc finetune` writes the target model before a run exists.
    if not {*names} - {*run_files.MADE_BEFORE}:
        return False
    if run_files.RUN not in names:
        shown = first_of(names, 3)
        raise UserError(
            f"{path}: the folder has no {run_files.RUN}, but it contains other files ({shown}). "
            "Set output.dir to another folder."
        )
    if run_files.RESULTS in names:
        raise UserError(
            f"{path}: the folder holds a finished run, so nothing was changed. Set output.dir to "
            "another folder, or pass --overwrite to replace the run."
        )
    recorded = read_record(path / run_files.RUN)
    unlike = differences(relevant(recorded["settings"]), relevant(record["settings"]))
    short_digests = [
        {f"digest of {name}": digest[:12] for name, digest in side.items()}
        for side in (recorded["digests"], record["digests"])
    ]
    unlike += differences(*short_digests)
    if unlike:
        shown = "; ".join(unlike[:8]) + (f"; and {len(unlike) - 8} more" if unlike[8:] else "")
        raise UserError(
            f"{path}: the folder holds an unfinished run with other settings or data ({shown}). "
            "Set output.dir to another folder, or pass --overwrite to replace the run."
        )
    return True


def _warn_of_versions(path: Path, record: dict[str, Any]) -> None:
    recorded = read_record(path / run_files.RUN)
    if changed := differences(recorded["versions"], record["versions"]):
        _log.warning(
            "%s: the run resumes with other package versions (%s). Install the recorded versions "
            "for identical results.",
            path,
            "; ".join(changed),
        )


def read_record(path: Path) -> dict[str, Any]:
    """Reads the record of a run from `run.json`.

    Raises:
        UserError: the file cannot be read, or `settings`, `digests` or `versions` is missing.
    """
    hint = "Repeat the run with --overwrite."
    record = read_json(path, hint=hint)
    parts = [record.get(name) for name in ("settings", "digests", "versions")]
    if not all(isinstance(part, dict) for part in parts) or not all(
        isinstance(text, str) for part in parts[1:] for text in part.values()
    ):
        raise UserError(f"{path}: the file is not a valid record of a run. {hint}")
    return record


def _own(path: Path) -> list[str]:
    """Returns the names of the files and folders that `overwrite` removes.

    Raises:
        UserError: `run.json` is missing, so these files may belong to the user.
    """
    present = run_files.step_models(path)
    present += [name for name in run_files.OWN if os.path.lexists(path / name)]
    if present and run_files.RUN not in present:
        raise UserError(
            f"{path}: --overwrite would remove {', '.join(present)}, but {run_files.RUN} is "
            "missing, so these files may be your own. Set output.dir to another folder."
        )
    return present


def remove(folder: Path, names: Sequence[str]) -> None:
    """Removes files and folders from the folder of a run; names that do not exist are ignored.

    Raises:
        UserError: a file cannot be removed.
    """
    try:
        for path in (folder / name for name in names):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: the path cannot be removed ({error.strerror}). Check the permissions of its "
            "folder and of everything in it."
        ) from error


def _refuse_shared_folders(path: Path) -> None:
    for shared in (Path(os.path.expanduser("~")), Path.cwd()):
        if shared.resolve().is_relative_to(path.resolve()):
            raise UserError(
                f"{path}: --overwrite is not allowed, because the folder is or contains {shared}. "
                "Set output.dir to a separate folder."
            )


def _absolute(folder: str | Path) -> Path:
    """Returns the absolute path of a folder.

    Raises:
        UserError: the path is not UTF-8. Some libraries cannot write to such a path.
    """
    path = Path(folder).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path}: the path is not valid UTF-8. Rename the folder, or use another output folder."
        ) from None
    return path


def _refuse_files(path: Path) -> None:
    for folder in (*reversed(path.parents), path):
        if folder.is_file():
            raise UserError(f"{folder}: the path is a file. Set output.dir to a folder.")


def _make_folders(path: Path) -> None:
    _refuse_files(path)
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700)


def _lock(path: Path) -> int:
    """Locks a folder and returns the open handle, which holds the lock until it is closed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(
            f"{path}: another process is writing to this folder. Wait until that process has "
            "ended, then run the same command again."
        ) from error
    except OSError:  # The file system does not support locks.
        _log.warning(
            "%s: the file system does not support locks. Do not start a second run in this folder.",
            path,
        )
    return handle


def _is_temporary(name: str) -> bool:
    """Returns whether a name is that of a temporary file, which a killed process may leave."""
    written = (run_files.RUN, run_files.RESULTS, run_files.MANIFEST)
    return name.startswith(tuple(f".{own}." for own in written))
