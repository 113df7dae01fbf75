"""What the folder of a run records: its settings, and the model that it started from."""

from collections.abc import Sequence
from pathlib import Path

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import read_json
from pmc_jax.commands.inputs import model_digest
from pmc_jax.commands.target import made_of
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


def source_model(config: Config, folder: Path, *, fix: str) -> tuple[str, str]:
    """Returns the path and the digest of the model that the run in `folder` started from.

    Args:
        config: settings of the run; `model.path` may name a copy of its model.
        fix: what to do without this model, as a sentence without its full stop.

    Raises:
        UserError: the model is gone, or it is another one than that of the run.
    """
    record = multihost.broadcast(lambda: run_folder.read_record(folder / run_folder.RUN))
    digests = record["digests"]
    if not config.finetune.data:
        path = model_path(config)
        try:
            digest = model_digest(path)
        except UserError as error:
            why = f"The run in {folder} started from this model"
            raise UserError(f"{str(error).rstrip('.')}. {why}. {fix}.") from None
        if digest != digests["model"]:
            raise UserError(f"{path}: this is not the model that {folder} started from. {fix}.")
        return path, digest
    target = folder / run_folder.TARGET
    mark = multihost.broadcast(lambda: _mark(target))
    if mark is None:
        raise UserError(f"{target}: the model that the run started from is removed. {fix}.")
    if mark != made_of(config, digests["model"], digests["finetune"]):
        raise UserError(f"{target}: this is not the model that the run started from. {fix}.")
    return str(target), model_digest(str(target))


def _mark(target: Path) -> dict | None:
    path = target / run_folder.TARGET_MARK
    return read_json(path, hint="the target must be made again") if path.is_file() else None
