"""Records scalars with Weights & Biases, which also works offline (WANDB_MODE=offline)."""

import logging
import math
import os
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import wandb

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.trackers import FINETUNE, UNLEARN
from pmc_jax.errors import UserError, reason, system_errors

_logger = logging.getLogger(__name__)

_AXES = {UNLEARN: "step", FINETUNE: "finetune_step"}
# Without these settings, wandb records output, code, commands, packages and the machine.
_PRIVATE = dict(
    console="off",
    save_code=False,
    disable_code=True,
    disable_git=True,
    disable_job_creation=True,
    x_disable_meta=True,
    x_disable_stats=True,
    x_disable_machine_info=True,
    x_save_requirements=False,
    sync_tensorboard=False,
    host="",
    username="",
    email="",
    program="",
    program_relpath="",
    program_abspath="",
    x_executable="",
    silent=True,
    # A process that is killed loses the values of this number of seconds.
    x_transaction_log_flush_interval=1.0,
)


class WeightsAndBiases:
    """Run in the project `pmc` of Weights & Biases, or in the project WANDB_PROJECT.

    A run that resumes continues the same run of Weights & Biases, whose id is in a file of the run
    folder. The environment variables WANDB_MODE and WANDB_ENTITY are respected.

    Args:
        folder: folder of the run.
        settings: settings of the run to record.

    Raises:
        UserError: the run cannot be opened, for example because there is no login.
    """

    def __init__(self, folder: Path, settings: Mapping[str, float | str]):
        self._folder = folder / run_files.WANDB
        fix = "Check the disk."
        with system_errors(f"{self._folder}: the folder cannot be written", fix):
            self._folder.mkdir(exist_ok=True)
            file = self._folder / "id"
            if not file.exists():
                file.write_text(secrets.token_hex(8))
            id_ = file.read_text()
        private = wandb.Settings(**_PRIVATE, root_dir=str(folder))
        try:
            self._run = wandb.init(
                id=id_,
                resume="allow",
                project=os.environ.get("WANDB_PROJECT") or "pmc",
                config=dict(settings),
                settings=private,
            )
            for axis in _AXES.values():
                self._run.define_metric(axis, hidden=True)
            self._run.define_metric("*", step_metric=_AXES[UNLEARN])
            self._run.define_metric("finetune_*", step_metric=_AXES[FINETUNE])
        except Exception as error:  # The library raises its own errors for logins and networks.
            self._remove_logs()
            raise UserError(
                f"log.trackers: wandb cannot start ({reason(error)}). Run wandb login, set "
                "WANDB_MODE=offline, or remove wandb from the list."
            ) from None
        self._sent: set[tuple[str, int]] = set()

    def add(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Records the finite values of one step, except those that were sent before.

        Raises:
            OSError: the library cannot record a value.
        """
        new = {n: v for n, v in values.items() if math.isfinite(v) and (n, step) not in self._sent}
        if not new or self._run is None:
            return
        try:
            self._run.log({_AXES[stage]: step, **new})
        except Exception as error:
            raise OSError(0, reason(error)) from None

    def resume(self, stage: str, step: int, sent: Collection[tuple[str, int]]) -> None:
        """Skips values that the interrupted run has sent, because a sent value cannot be undone."""
        self._sent |= set(sent)

    def close(self) -> None:
        """Ends the run. A second call does nothing."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            _logger.warning(
                "%s: wandb could not end its run (%s). wandb sync can send the rest.",
                *(self._folder, reason(error)),
            )
        self._run = None
        self._remove_logs()

    def _remove_logs(self) -> None:
        """Removes the library's own logs, which contain paths, and the links to them."""
        for logs in self._folder.glob("*/logs"):
            shutil.rmtree(logs, ignore_errors=True)
        for path in self._folder.iterdir():
            if path.is_symlink():
                path.unlink()
