"""Checkpoints of a run: a pytree of arrays and a dict of host values per step, through orbax v1.

`ocp.training.Checkpointer` copies arrays to host memory before `save` returns (so that a training
step may donate them at once), writes in the background, renames a complete checkpoint into place,
and deletes older ones. `Checkpoints` changes three of its defaults. A save during another save
waits instead of being skipped. The JSON handler writes the host values, not the pytree handler with
one array per string. Shapes and dtypes are saved with the host values and compared first, because
orbax casts and pads arrays of another model, or fails with an error that looks like damage.

A restored state has the same bits as the saved one, in the shardings of `abstract_state`, which may
differ from the saved shardings. A flipped bit in a file of the right length is not detected.
Orbax logs to the logger "absl". Close `Checkpoints`, as `with` does: an interpreter that exits
during a background write prints orbax's tracebacks and loses that checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from pmc_jax.config.schema import differences
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, system_errors

_log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 600.0
_STATE = "state"
_HOST = "host"


class Interval:
    """The ten minutes between two checkpoints, if the settings give no number of steps."""

    def __init__(self):
        self.begin()

    def begin(self) -> None:
        self._since = time.monotonic()

    def is_over(self) -> bool:
        """Whether the interval has passed, by the clock of the first process."""
        return multihost.broadcast(lambda: time.monotonic() - self._since > CHECKPOINT_SECONDS)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints in one folder; all processes of a run open the same folder.

    Args:
        folder: created if absent. Checkpoint number 7 is its folder `7`.
        keep: number of newest checkpoints to keep, at least 1.

    Raises:
        UserError: the folder cannot be made or read.
    """

    def __init__(self, folder: str | Path, *, keep: int):
        if keep < 1:
            raise UserError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.folder = Path(folder).absolute()  # orbax refuses relative paths
        self._writing = -1
        registry = ocp.handlers.local_registry()
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=_HOST)
        context = ocp.Context()
        context.checkpointables.registry = registry
        context.file_options.path_permission_mode = 0o700
        context.atomicity.mode = ocp.options.AtomicityMode.ATOMIC_RENAME
        with system_errors(f"{folder}: cannot keep checkpoints here"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._checkpointer = ocp.training.Checkpointer(
                self.folder,
                context=context,
                preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )

    def save(self, step: int, state: Any, host: dict[str, Any]) -> None:
        """Starts to write a checkpoint, after the previous write has finished.

        Copies arrays and host values before it returns: the caller may donate or delete `state` and
        change `host` at once. A checkpoint becomes visible when it is complete on disk. If it
        cannot be written, for example because the disk is full, a warning is logged and earlier
        checkpoints are not affected.

        Args:
            step: number of the checkpoint, above `latest()`.
            state: pytree of jax.Array, at least one.
            host: JSON values, the same in all processes.

        Raises:
            ValueError: `step` is not above `latest()`.
            TypeError: `host` holds a value that JSON cannot represent.
        """
        self.wait()
        latest = self.latest()
        if latest is not None and step <= latest:
            raise ValueError(f"{self.folder}: step {step} is not above the saved step {latest}")
        # A copy, because orbax serialises host values in the background.
        values = json.loads(json.dumps(host))
        content = {_STATE: state, _HOST: {"values": values, "arrays": _arrays(state)}}
        self._writing = step
        try:
            self._checkpointer.save_checkpointables_async(step, content, force=True)
        except Exception as error:  # orbax has no single type for a full disk
            self._warn_unwritten(error)

    def latest(self) -> int | None:
        """Step of the newest checkpoint, including one that is being written; None without one.

        All processes of a job return the value of the first process.
        """
        return multihost.broadcast(lambda: getattr(self._checkpointer.latest, "step", None))

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints, the newest last; the list of the first process."""
        return multihost.broadcast(lambda: [c.step for c in self._checkpointer.checkpoints])

    def read(self, step: int, abstract_state: Any = None) -> tuple[Any, dict[str, Any]]:
        """Returns the state and the host values of one checkpoint.

        Args:
            abstract_state: see `restore`; None = the state is not read, and None in its place.

        Raises:
            UserError: the checkpoint cannot be read, or holds the state of another model.
        """
        try:
            if abstract_state is not None:
                return self.restore(step, abstract_state)
            return None, self._host(step)["values"]
        except UserError:
            raise
        except Exception as error:  # damage raises any type, from KeyError to OSError
            raise UserError(
                f"{self.folder / str(step)}: the checkpoint cannot be read ({_one_line(error)})."
            ) from error

    def restore(self, step: int, abstract_state: Any) -> tuple[Any, dict[str, Any]]:
        """The state and host values of one checkpoint.

        Args:
            step: number of a checkpoint.
            abstract_state: pytree of jax.ShapeDtypeStruct with shardings, of the saved structure.

        Raises:
            UserError: the checkpoint is complete, but its arrays differ from `abstract_state`.
            Exception: the checkpoint is absent or damaged; orbax has no single type for this.
        """
        self.wait()
        host = self._host(step)
        unlike = differences(host["arrays"], _arrays(abstract_state))
        if unlike:
            shown = "; ".join(unlike[:3]) + ("; ..." if len(unlike) > 3 else "")
            raise UserError(f"{self.folder}: step {step} holds the state of another model: {shown}")
        state = self._checkpointer.load_checkpointables(step, {_STATE: abstract_state})[_STATE]
        return state, host["values"]

    def _host(self, step: int) -> dict[str, Any]:
        return self._checkpointer.load_checkpointables(step, {_HOST: None})[_HOST]

    def restore_latest(self, abstract_state: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """Step, state and host values of the newest checkpoint that can be read.

        Skips damaged checkpoints with a warning and deletes them after an older one has been read,
        because the run will reach their steps again.

        Returns:
            None if there is no checkpoint.

        Raises:
            UserError: no existing checkpoint can be read, or the arrays of the newest differ from
                `abstract_state`; nothing is deleted.
        """
        self.wait()
        steps, damaged = self.steps, []
        for step in reversed(steps):
            restored, reason = None, "another process could not read it"
            try:
                restored = self.restore(step, abstract_state)
            except UserError:
                raise
            except Exception as error:  # damage raises any type, from KeyError to OSError
                reason = _one_line(error)
            if not all(multihost.gather(restored is not None)):
                _log.warning("checkpoint of step %d cannot be read: %s", step, reason)
                damaged.append(step)
                continue
            for broken in damaged:
                self._checkpointer.delete(broken)
            return step, *restored
        if not steps:
            return None
        raise UserError(
            f"{self.folder}: no checkpoint can be read (steps {', '.join(map(str, steps))}; "
            f"the last error: {reason}); move the folder away to restart the run"
        )

    def wait(self) -> None:
        """Waits until all saved checkpoints are on disk; logs a warning if a write failed."""
        try:
            self._checkpointer.wait()
        except Exception as error:
            self._warn_unwritten(error)

    def _warn_unwritten(self, error: Exception) -> None:
        """Warns that a checkpoint could not be written, and removes its partial files."""
        _log.warning(
            "checkpoint of step %d cannot be written, the run continues: %s",
            self._writing,
            _one_line(error),
            extra={"of_process": True},
        )
        if multihost.is_first():
            for partial in self.folder.glob(f"{self._writing}.*"):
                shutil.rmtree(partial, ignore_errors=True)

    def close(self) -> None:
        """Waits for the last write, then releases the folder."""
        self.wait()
        with contextlib.suppress(Exception):  # the same failed write: `wait` has warned
            self._checkpointer.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _arrays(state: Any) -> dict[str, str]:
    """Path of every array -> its dtype and shape, such as "float32[2,3]"."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _one_line(error: BaseException) -> str:
    """The first cause of an error in at most 200 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 200 else f"{text[:197]}..."
