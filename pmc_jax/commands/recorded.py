"""Reads the settings and the source model that the output folder of a run records."""

from collections.abc import Sequence
from pathlib import Path

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.commands.inputs import model_digest
from pmc_jax.commands.target import made_of
from pmc_jax.config.loader import apply_overrides
from pmc_jax.config.reading import read_json
from pmc_jax.config.run import Config, config_from_dict, model_path
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError


def recorded_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Returns the recorded settings of a run with overrides.

    Raises:
        UserError: the folder holds no run, or an override is invalid.
    """

    def read() -> dict:
        if not (folder / run_files.RUN).is_file():
            raise UserError(f"{folder}: the folder holds no run. Run pmc unlearn first.")
        return run_folder.read_record(folder / run_files.RUN)["settings"]

    settings, faults = apply_overrides(multihost.broadcast(read), overrides)
    if faults:
        raise UserError(" ".join(faults))
    return config_from_dict(settings, where=f"{folder} with overrides")


def finished_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Returns the recorded settings of a finished run with overrides.

    Raises:
        UserError: the folder holds no finished run, or an override is invalid.
    """
    if not multihost.broadcast((folder / run_files.RESULTS).is_file):
        raise UserError(f"{folder}: the folder holds no finished run. Run pmc unlearn first.")
    return recorded_config(folder, overrides)


def unlearned_model(folder: Path) -> Path:
    """Returns the folder of the unlearned model of a finished run.

    Raises:
        UserError: the model does not exist.
    """
    model = folder / run_files.MODEL
    if not multihost.broadcast(model.is_dir):
        raise UserError(
            f"{model}: the unlearned model does not exist. Run pmc export {folder}, or repeat the "
            "run with --overwrite. A comparison keeps models with output.keep_models=true."
        )
    return model


def source_model(config: Config, folder: Path, *, fix: str) -> tuple[str, str]:
    """Returns the path and the digest of the model from which the run in `folder` started.

    Args:
        config: settings of the run. `model.path` may be a copy of the model of the run.
        fix: last sentence of the error message, without its full stop; it says what to do.

    Raises:
        UserError: the model is missing, or it is not the model from which the run started.
    """
    record = multihost.broadcast(lambda: run_folder.read_record(folder / run_files.RUN))
    digests = record["digests"]
    if not config.finetune.data:
        path = model_path(config)
        _check_present(folder, path, fix)
        try:
            digest = model_digest(path)
        except UserError as error:
            why = f"The run in {folder} started from this model"
            raise UserError(f"{str(error).rstrip('.')}. {why}. {fix}.") from None
        if digest != digests.get("model"):
            raise UserError(
                f"{path}: this is not the model from which the run in {folder} started. {fix}."
            )
        return path, digest
    target = folder / run_files.TARGET
    mark = multihost.broadcast(lambda: _mark(target))
    if mark is None:
        raise UserError(f"{target}: the model from which the run started no longer exists. {fix}.")
    if mark != made_of(config, digests.get("model"), digests.get("finetune")):
        raise UserError(f"{target}: this is not the model from which the run started. {fix}.")
    return str(target), model_digest(str(target))


def _check_present(folder: Path, path: str, fix: str) -> None:
    """Raises a `UserError` if a finished run read a model from a local path that does not exist.

    Without this check, the path would be looked up as a name on the Hugging Face Hub.
    """

    def is_gone() -> bool:
        read = manifest.model_path(folder)
        return read is not None and read.endswith(f"/{path}") and not Path(path).exists()

    if multihost.broadcast(is_gone):
        raise UserError(
            f"{path}: the model from which the run in {folder} started does not exist. {fix}."
        )


def _mark(target: Path) -> dict | None:
    path = target / run_files.TARGET_MARK
    if not path.is_file():
        return None
    return read_json(path, hint="Make the target again with pmc finetune CONFIG --overwrite.")
