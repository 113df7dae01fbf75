"""Output-folder lifecycle: claim, resume, finish. Refuses folders not created by pmc.

A run writes `run.json` first and `results.json` at its end. A folder with only `run.json` is an
unfinished run, which resumes under the same settings and data; a folder with both is finished and
does not change. Only files that a run wrote are ever removed. The first process of a job claims the
folder.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.digests import relevant
from pmc_jax.artifacts.files import plain, read_json, write_json
from pmc_jax.config.schema import differences
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, first_of, system_errors
from pmc_jax.models.remote import PARTIAL

try:
    import fcntl
except ImportError:  # Windows: no lock there
    fcntl = None

_log = logging.getLogger(__name__)

RUN = "run.json"
RESULTS = "results.json"
MANIFEST = "manifest.json"
LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
LOSS_PLOT = "loss.png"
PROFILE = "profile"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation"  # rows from which evaluation resumes
EVALUATION_RESULTS = "evaluation.json"
MODEL = "model"
STEP_MODEL = "model-step-"  # and the step: models that `pmc export --partial` writes
ADAPTER = "adapter"  # LoRA adapters, which `model` has merged
REPORT, REPORT_JSON = "report.html", "report.json"
TARGET = "target"  # the fine-tuned target model, which later runs reuse by digest
TARGET_CHECKPOINTS = "target.checkpoints"  # until the training of the target ends

# Files of a finished run that `pmc evaluate` and `pmc report` may rewrite.
MADE_AGAIN = (EVALUATION, EVALUATION_RESULTS, REPORT, REPORT_JSON)

# Files that `overwrite` removes; run.json last, so that an interrupted removal can be repeated.
OWN = (RESULTS, MANIFEST, LOG, TENSORBOARD, LOSS_PLOT, PROFILE, *MADE_AGAIN)
OWN += (CHECKPOINTS, MODEL, ADAPTER, RUN)

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "pmc_jax")


class OutputFolder(contextlib.AbstractContextManager):
    """A folder that this job has claimed; leaving its context releases it.

    Only the first process of a job locks the folder and writes to it.

    Attributes:
        path: the folder, absolute.
        resuming: whether it holds an unfinished run of the same settings and data.
    """

    def __init__(
        self, path: Path, resuming: bool, record: dict[str, Any], lock: contextlib.ExitStack
    ):
        self.path = path
        self.resuming = resuming
        self._record = record
        self._lock = lock

    def finish(self, results: Mapping[str, Any]) -> None:
        """Writes `results.json`, then marks the run as finished.

        Raises:
            UserError: the folder cannot be written to.
        """
        if not multihost.is_first():
            return
        write_json(self.path / RESULTS, results)
        write_json(self.path / RUN, {**self._record, "status": "finished"})

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
) -> None:
    """Checks that `claim` would succeed, and changes nothing.

    Raises:
        UserError: see `claim`.
    """
    record, path = {"settings": plain(settings), "digests": dict(digests)}, Path(folder).absolute()
    if multihost.broadcast(path.is_dir):
        with locked(folder):
            multihost.broadcast(lambda: _is_resumed(path, record, overwrite))
    else:
        multihost.broadcast(lambda: _refuse_files(path))


def claim(
    folder: str | Path,
    *,
    settings: Mapping[str, Any],
    digests: Mapping[str, str],
    overwrite: bool = False,
) -> OutputFolder:
    """Claims a new folder for a run, or the folder of an unfinished run, which resumes.

    All processes of a job call this; the first one decides for all.

    Args:
        folder: created if absent, with its parents.
        settings: settings of the run as nested dicts; `output` and `log` may differ on resuming.
        digests: name of an input -> digest of its contents.
        overwrite: remove the files of an earlier run (`OWN`) and start again; other files and
            `target/` stay.

    Raises:
        UserError: the folder holds a finished run, an unfinished run of other settings or data, or
            files that no run wrote (these messages name `--overwrite`); another process uses it;
            it is a file or cannot be written; or `overwrite` is set for the home or working folder.
    """
    record = {"settings": plain(settings), "digests": dict(digests), "versions": versions()}

    def prepare() -> tuple[str, bool]:
        path = Path(folder).absolute()
        resuming = _is_resumed(path, record, overwrite)
        if resuming:
            _warn_of_versions(path, record)
        if overwrite:
            remove(path, _own(path))
        for rest in path.glob(f".*{PARTIAL}"):  # leftovers of a killed process
            shutil.rmtree(rest, ignore_errors=True)
        write_json(path / RUN, {**record, "status": "running"})
        return str(path), resuming

    with contextlib.ExitStack() as lock:
        lock.enter_context(locked(folder, make=True))
        path, resuming = multihost.broadcast(prepare)
        return OutputFolder(Path(path), resuming, record, lock.pop_all())


@contextlib.contextmanager
def locked(folder: str | Path, *, make: bool = False) -> Iterator[None]:
    """Locks the folder of a run for this job; creates it first if `make`.

    The first process of a job holds the lock; the others wait for it.

    Raises:
        UserError: another job uses the folder, or it is not a folder.
    """
    path = Path(folder).absolute()
    handles: list[int] = []

    def acquire() -> None:
        with system_errors(f"{folder}: cannot use this folder"):
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


def versions() -> dict[str, str]:
    """Package -> installed version, for Python and the packages that the numbers depend on."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def _is_resumed(path: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether an unfinished run resumes; raises UserError if the folder must not change."""
    if overwrite:
        _refuse_shared_folders(path)
        _own(path)
        return False
    names = sorted(entry.name for entry in path.iterdir() if not _is_temporary(entry.name))
    # `pmc finetune` makes the target without a run.
    if not {*names} - {TARGET, TARGET_CHECKPOINTS}:
        return False
    if RUN not in names:
        shown = first_of(names, 3)
        raise UserError(
            f"{path}: the folder holds files that no run wrote ({shown}); name another folder, or "
            "pass --overwrite to write next to them"
        )
    if RESULTS in names:
        raise UserError(
            f"{path}: the folder holds a finished run, nothing was changed; name another folder, "
            "or pass --overwrite to replace it"
        )
    recorded = read_record(path / RUN)
    unlike = differences(relevant(recorded["settings"]), relevant(record["settings"]))
    short_digests = [
        {f"data {name}": digest[:12] for name, digest in side.items()}
        for side in (recorded["digests"], record["digests"])
    ]
    unlike += differences(*short_digests)
    if unlike:
        shown = "; ".join(unlike[:8]) + (f"; and {len(unlike) - 8} more" if unlike[8:] else "")
        raise UserError(
            f"{path}: the folder holds an unfinished run of other settings or data: {shown}; name "
            "another folder, or pass --overwrite to replace it"
        )
    return True


def _warn_of_versions(path: Path, record: dict[str, Any]) -> None:
    recorded = read_record(path / RUN)
    if changed := differences(recorded["versions"], record["versions"]):
        _log.warning("%s: resumed under other versions: %s", path, "; ".join(changed))


def read_record(path: Path) -> dict[str, Any]:
    """Reads `run.json`.

    Raises:
        UserError: the file cannot be read, or `settings`, `digests` or `versions` is missing.
    """
    hint = "pass --overwrite to replace the run"
    record = read_json(path, hint=hint)
    parts = [record.get(name) for name in ("settings", "digests", "versions")]
    if not all(isinstance(part, dict) for part in parts) or not all(
        isinstance(text, str) for part in parts[1:] for text in part.values()
    ):
        raise UserError(f"{path}: not the record of a run; {hint}")
    return record


def step_models(folder: Path) -> list[str]:
    """The names of the models in the folder of a run that `pmc export --partial` wrote."""
    return sorted(path.name for path in folder.glob(f"{STEP_MODEL}[0-9]*"))


def _own(path: Path) -> list[str]:
    """The names of the files of a run; without `run.json`, refuses, because no run wrote them."""
    present = [*step_models(path), *(name for name in OWN if os.path.lexists(path / name))]
    if present and RUN not in present:
        raise UserError(
            f"{path}: {', '.join(present)} would be overwritten but no run wrote it (there is no "
            f"{RUN}); name another folder"
        )
    return present


def remove(folder: Path, names: Sequence[str]) -> None:
    """Removes entries of the folder of a run; some may be absent.

    Raises:
        UserError: an entry cannot be removed.
    """
    try:
        for path in (folder / name for name in names):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be removed: {error.strerror}") from error


def _refuse_shared_folders(path: Path) -> None:
    for shared in (Path(os.path.expanduser("~")), Path.cwd()):
        if shared.resolve().is_relative_to(path.resolve()):
            raise UserError(
                f"{path}: --overwrite is refused, because the folder is or contains {shared}; "
                "name a separate folder for the run"
            )


def _refuse_files(path: Path) -> None:
    for folder in (*reversed(path.parents), path):
        if folder.is_file():
            raise UserError(f"{folder}: this is a file; name a folder")


def _make_folders(path: Path) -> None:
    _refuse_files(path)
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700)


def _lock(path: Path) -> int:
    """An open handle that holds the lock of the folder; the system releases it with the process."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(f"{path}: another process is writing to this folder") from error
    except OSError:  # a file system without locks
        _log.warning("%s: the file system has no locks; do not start a second run here", path)
    return handle


def _is_temporary(name: str) -> bool:
    """Whether the file is a leftover of `write_json` in a killed process."""
    return name.startswith((f".{RUN}.", f".{RESULTS}.", f".{MANIFEST}."))
