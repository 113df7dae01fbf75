"""Reads and writes the checkpoints of a run.

A checkpoint holds a pytree of arrays and the host values, which are a dict of JSON values.

`ocp.training.Checkpointer` of orbax v1 copies arrays to host memory before `save` returns, so that
a training step may donate the arrays at once. The checkpointer writes in the background, renames a
complete checkpoint into place and deletes older checkpoints. `Checkpoints` changes three defaults:

- A save that starts during another save waits. By default, orbax skips such a save.
- The JSON handler writes the host values, because the pytree handler writes one array per string.
- Shapes and dtypes are saved with the host values and are compared before arrays are read. Without
  this comparison, orbax casts and pads arrays of another model or reports a damaged file.

A restored state has the same bits as the saved state. The shardings are those of `abstract_state`,
which may differ from the saved shardings. Every change of the host values is detected, but a
flipped bit in an array may remain undetected. Orbax logs to the logger "absl". Use `Checkpoints` in
a `with` block, because an interpreter that exits during a background write loses the checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from pmc_jax.config.differences import differences
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, reason, system_errors

_log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 600.0
_STATE = "state"
_HOST = "host"


class Interval:
    """Timer for checkpoints every ten minutes."""

    def __init__(self):
        self.begin()

    def begin(self) -> None:
        self._since = time.monotonic()

    def is_over(self) -> bool:
        """Returns whether ten minutes have passed since `begin`, by the first process's clock."""
        return multihost.broadcast(lambda: time.monotonic() - self._since > CHECKPOINT_SECONDS)


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Preservation policy of orbax that keeps the checkpoints of the given steps."""

    steps: set[int]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step in self.steps for checkpoint in checkpoints]


class Checkpoints(contextlib.AbstractContextManager):
    """Writer and reader of the checkpoints in one folder.

    All processes of a run open the same folder.

    Args:
        folder: folder of the checkpoints, which is created if it does not exist. The checkpoint of
            step 7 is the subfolder `7`.
        keep: number of newest checkpoints to keep, at least 1.

    Attributes:
        chosen: steps whose checkpoints are kept in addition to the newest checkpoints.

    Raises:
        UserError: `keep` is below 1, or the folder cannot be created or read.
    """

    def __init__(self, folder: str | Path, *, keep: int):
        if keep < 1:
            raise UserError(
                f"keep: the value must be at least 1, but it is {keep}. Pass a larger number."
            )
        self.folder = Path(folder).absolute()  # orbax rejects relative paths.
        self.chosen: set[int] = set()
        self._writing = -1
        self._save: Any = None  # response of orbax to the newest save
        registry = ocp.handlers.local_registry()
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=_HOST)
        context = ocp.Context()
        context.checkpointables.registry = registry
        context.file_options.path_permission_mode = 0o700
        context.atomicity.mode = ocp.options.AtomicityMode.ATOMIC_RENAME
        policies = ocp.training.preservation_policies
        kept = policies.AnyPreservationPolicy([policies.LatestN(keep), _Chosen(self.chosen)])
        fix = "Check the permissions of the folder, or use another output folder."
        with system_errors(f"{folder}: the checkpoint folder cannot be used", fix):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._checkpointer = ocp.training.Checkpointer(
                self.folder,
                context=context,
                preservation_policy=kept,
                cleanup_tmp_directories=True,
            )

    def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
        """Waits for the previous write, then starts to write a checkpoint in the background.

        Arrays and host values are copied before the method returns, so the caller may donate or
        delete `state` and change `host` at once. A checkpoint becomes visible when it is complete
        on disk. If a checkpoint cannot be written, for example because the disk is full, a warning
        is logged and earlier checkpoints are not changed.

        Args:
            step: step of the checkpoint, which must be above `latest()`.
            state: pytree with at least one jax.Array.
            host: JSON values, which must be the same in all processes.

        Raises:
            UserError: the folder no longer exists.
            ValueError: `step` is not above `latest()`.
            TypeError: `host` holds a value that JSON cannot represent.
        """
        self.wait()
        if not self.folder.is_dir():  # Orbax would create a folder with only this checkpoint.
            raise UserError(
                f"{self.folder}: the folder was removed or moved during the run. Run the same "
                "command again, which starts from the beginning unless you move the folder back."
            )
        latest = self.latest()
        if latest is not None and step <= latest:
            raise ValueError(
                f"{self.folder}: the step must be above {latest}, the step of the newest "
                f"checkpoint, but it is {step}. Save checkpoints in the order of their steps."
            )
        # The values are copied, because orbax serialises host values in the background.
        values = json.loads(json.dumps(host))
        host = {"values": values, "arrays": _arrays(state)}
        content = {_STATE: state, _HOST: host | {"sha256": _digest(host)}}
        self._writing = step
        try:
            save = self._checkpointer.save_checkpointables_async
            self._save = save(step, content, force=True)
        except Exception as error:  # orbax raises errors of several types for a full disk.
            self._warn_unwritten(error)

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, or None if no checkpoint exists.

        The result includes a checkpoint that is still being written. All processes of a job return
        the value of the first process.
        """
        return multihost.broadcast(lambda: getattr(self._checkpointer.latest, "step", None))

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints in ascending order, as the first process lists them."""
        return multihost.broadcast(lambda: [c.step for c in self._checkpointer.checkpoints])

    def read(
        self,
        step: int,
        abstract_state: Any = None,
        *,
        fix: str = "To make the checkpoint again, repeat the run with --overwrite.",
    ) -> tuple[Any, dict[str, Any]]:
        """Reads one checkpoint, and reports damage as a `UserError`.

        Args:
            step: step of the checkpoint.
            abstract_state: abstract state as in `restore`; None skips the state.
            fix: sentence at the end of the message about damage, which says what to do.

        Returns:
            The state, or None if the state is skipped, and the host values.

        Raises:
            UserError: the checkpoint cannot be read or holds the state of another model.
        """
        try:
            if abstract_state is not None:
                return self.restore(step, abstract_state)
            return None, self._host(step)["values"]
        except UserError:
            raise
        except Exception as error:  # Damage can raise any type, from KeyError to OSError.
            raise UserError(
                f"{self.folder / str(step)}: the checkpoint cannot be read ({_one_line(error)}). "
                f"{fix}"
            ) from error

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """Restores the state and the host values of one checkpoint.

        Args:
            step: step of the checkpoint.
            abstract_state: pytree of jax.ShapeDtypeStruct with shardings, which has the structure
                of the saved state.

        Raises:
            UserError: the checkpoint is complete, but its arrays differ from `abstract_state`.
            Exception: the checkpoint is missing or damaged; the type of the error depends on orbax.
        """
        self.wait()
        host = self._host(step)
        unlike = differences(host["arrays"], _arrays(abstract_state))
        if unlike:
            shown = "; ".join(unlike[:3]) + ("; ..." if len(unlike) > 3 else "")
            raise UserError(
                f"{self.folder}: the checkpoint of step {step} holds the state of another model "
                f"({shown}). Use the model of the run, or move the folder away to restart the run."
            )
        state = self._checkpointer.load_checkpointables(step, {_STATE: abstract_state})[_STATE]
        return state, host["values"]

    def _host(self, step: int) -> dict[str, Any]:
        host = self._checkpointer.load_checkpointables(step, {_HOST: None})[_HOST]
        if host.pop("sha256") != _digest(host):
            raise ValueError("the host values are damaged")
        return host

    def restore_latest(self, abstract_state: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Restores the newest checkpoint that can be read.

        Damaged checkpoints are skipped with a warning. They are deleted after an older checkpoint
        has been read, because the run will reach the same steps again.

        Returns:
            The step, the state and the host values, or None if no checkpoint exists.

        Raises:
            UserError: no checkpoint can be read, or the arrays of the newest readable checkpoint
                differ from `abstract_state`. In both cases, no checkpoint is deleted.
        """
        self.wait()
        steps, damaged = self.steps, []
        for step in reversed(steps):
            restored, cause = None, "another process could not read it"
            try:
                restored = self.restore(step, abstract_state)
            except UserError:
                raise
            except Exception as error:  # Damage can raise any type, from KeyError to OSError.
                cause = _one_line(error)
            if not all(multihost.gather(restored is not None)):
                _log.warning(
                    "%s: the checkpoint of step %d cannot be read (%s), so it is skipped.",
                    self.folder,
                    step,
                    cause,
                )
                damaged.append(step)
                continue
            for broken in damaged:
                self._checkpointer.delete(broken)
            return step, *restored
        if not steps:
            return None
        raise UserError(
            f"{self.folder}: no checkpoint can be read (step{'s' * (len(steps) > 1)} "
            f"{', '.join(map(str, steps))}; {cause}). Move the folder away to restart the run."
        )

    def wait(self) -> None:
        """Waits until all checkpoints are on disk, and logs a warning if a write has failed."""
        save, self._save = self._save, None
        try:
            if save is not None:
                save.result()  # Ends the thread that orbax starts for each save.
            self._checkpointer.wait()
        except Exception as error:
            self._warn_unwritten(error)

    def _warn_unwritten(self, error: Exception) -> None:
        """Warns that a checkpoint could not be written, and removes its incomplete files."""
        _log.warning(
            "%s: the checkpoint of step %d could not be written (%s). The run continues. Check "
            "the disk.",
            self.folder,
            self._writing,
            _one_line(error),
            extra={"of_process": True},
        )
        if multihost.is_first():
            for partial in self.folder.glob(f"{self._writing}.*"):
                shutil.rmtree(partial, ignore_errors=True)

    def close(self) -> None:
        """Waits for the last write and releases the folder."""
        self.wait()
        with contextlib.suppress(Exception):  # `wait` has already warned of a failed write.
            self._checkpointer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _digest(host: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(host, sort_keys=True).encode()).hexdigest()


def _arrays(state: Any) -> dict[str, str]:
    """Returns the dtype and shape of each array, such as "float32[2,3]", by path in the pytree."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _one_line(error: BaseException) -> str:
    """Returns a description of an error's root cause in one line, without quoted parts."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return reason(error)
