"""What the folder of a run records: its settings, and the model that it started from."""

from collections.abc import Sequence
from pathlib import Path

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import read_json
from pmc_jax.commands.inputs import model_digest
from pmc_jax.commands.target import TARGET_MARK, made_of
from pmc_jax.config.loader import apply_overrides
from pmc_jax.config.run import Config, config_from_dict, model_path
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError


def recorded_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Returns the settings of a run with overrides.

    Raises:
        UserError: the folder holds no run, or an override is invalid.
    """

    def read() -> dict:
        if not (folder / run_folder.RUN).is_file():
            raise UserError(f"{folder}: the folder holds no run. Run pmc unlearn first.")
        return run_folder.read_record(folder / run_folder.RUN)["settings"]

    settings, faults = apply_overrides(multihost.broadcast(read), overrides)
    if faults:
        raise UserError(" ".join(faults))
    return config_from_dict(settings, where=f"{folder} with overrides")


def source_model(config: Config, folder: Path) -> tuple[str, str]:
    """Returns the path and the digest of the model that the run in `folder` started from.

    Args:
        config: settings of the run; `model.path` may name a copy of its model.

    Raises:
        UserError: the model is gone, or it is another one than that of the run.
    """
    digests = multihost.broadcast(lambda: run_folder.read_record(folder / run_folder.RUN))[
        "digests"
    ]
    if not config.finetune.data:
        path = model_path(config)
        if (digest := model_digest(path)) != digests["model"]:
            raise UserError(
                f"{path}: this is not the model that the run in {folder} started from. Set "
                "model.path to that model."
            )
        return path, digest
    target = folder / run_folder.TARGET
    wanted = made_of(config, digests["model"], digests["finetune"])
    if not multihost.broadcast(target.is_dir):
        raise UserError(
            f"{target}: the model that the run started from is removed. Run pmc finetune CONFIG "
            "to make it again."
        )
    mark = multihost.broadcast(
        lambda: read_json(target / TARGET_MARK, hint="Run pmc finetune CONFIG --overwrite.")
    )
    if mark != wanted:
        raise UserError(
            f"{target}: this is not the model that the run started from. Run pmc finetune CONFIG "
            "--overwrite with the settings and data of the run to make that model again."
        )
    return str(target), model_digest(str(target))
