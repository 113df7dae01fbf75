"""Runs `pmc export`: writes the weights of a checkpoint and prints its step."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.commands.recorded import recorded_config, source_model
from pmc_jax.config.run import Config, output_dir
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel, load
from pmc_jax.report import model_card
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.trainer import Trainer

_REPEAT = "Repeat the run with --overwrite. A comparison keeps models with output.keep_models=true"


def run_export(
    config: Config, *, overwrite: bool, partial: bool, say: Callable[[str], None]
) -> None:
    """Writes the weights of a run as a Hugging Face folder, and prints their step.

    Args:
        config: settings. Only `model.path`, `mesh` and `output` are read. If `model.path` is None,
            the source model of the run is used. All other settings are those that the run in
            `output.dir` recorded.
        overwrite: whether to replace an existing folder.
        partial: False writes the result of a finished run to `model/`, and True writes the newest
            checkpoint of any run to `model-step-N/`.

    Raises:
        UserError: the output folder holds no run or lacks the weights, or the model folder exists
            and `overwrite` is false.
    """
    folder = Path(output_dir(config))
    own = recorded_config(folder)
    model = dataclasses.replace(own.model, path=config.model.path or own.model.path)
    config = dataclasses.replace(own, mesh=config.mesh, output=config.output, model=model)
    with run_folder.locked(folder), _checkpoints(folder, config) as checkpoints:
        step, what = _choose(folder, checkpoints, partial)
        name = f"{run_files.STEP_MODEL}{step}" if partial else run_files.MODEL
        if multihost.broadcast((folder / name).exists) and not overwrite:
            raise UserError(
                f"{folder / name}: the folder exists already. Move the folder, or pass "
                "--overwrite to replace the folder."
            )
        lm = _load_step(config, folder, checkpoints, step)
        export_hf(lm, folder / name, replace=overwrite)
        if multihost.is_first():
            results = None if partial else manifest.read_results(folder)
            model_card.write(folder / name, config, _source(folder), step, results)
            manifest.record(folder, [name])
    say(f"pmc wrote {folder / name}: {what}")
    if config.model.date is not None:
        say(
            f"{folder / name}: the run used {config.model.date} as today's date (model.date). If "
            "the chat template inserts a date, other programs insert the day on which they run."
        )


def _checkpoints(folder: Path, config: Config) -> contextlib.AbstractContextManager:
    """Opens the checkpoints of a run, or yields None if the run has no folder `checkpoints`."""
    path = folder / run_files.CHECKPOINTS
    if not multihost.broadcast(path.is_dir):
        return contextlib.nullcontext()
    return Checkpoints(path, keep=config.output.keep)


def _choose(folder: Path, checkpoints: Checkpoints | None, partial: bool) -> tuple[int, str]:
    """Returns the step whose weights are exported, and a description of the weights."""
    steps = checkpoints.steps if checkpoints else []
    results = multihost.broadcast(lambda: manifest.read_results(folder))
    if results is None:
        return _choose_unfinished(folder, checkpoints, steps, partial)
    step, total = results["step"], results["total_steps"]
    if step == 0 and not partial:
        raise UserError(
            f"{folder}: the run ended at step 0 of {total}, so the weights are not unlearned. "
            "Increase pmc.schedule.epochs and repeat the run with --overwrite."
        )
    if not steps:
        has_model = multihost.broadcast((folder / run_files.MODEL).is_dir)
        holder = "only model/ holds" if has_model else "nothing holds"
        fix = "Copy model/" if has_model else _REPEAT
        raise UserError(
            f"{folder}: the run is finished and has no checkpoints, so {holder} the "
            f"unlearned weights. {fix}."
        )
    if partial:
        return steps[-1], f"the weights of step {steps[-1]} of {total}"
    if step not in steps:
        raise UserError(
            f"{folder}: the checkpoint of step {step}, which is the result of the run, is "
            "missing. Pass --partial to write the newest checkpoint to "
            f"{run_files.STEP_MODEL}{steps[-1]}/."
        )
    why = f", where the run stopped because {results['stopped']}" if results["stopped"] else ""
    if results["best"]:
        why = f": {results['best']}"
    return step, f"the unlearned weights of step {step} of {total}{why}"


def _choose_unfinished(
    folder: Path, checkpoints: Checkpoints | None, steps: Sequence[int], partial: bool
) -> tuple[int, str]:
    """Returns the step of an unfinished run whose weights are exported, and their description."""
    if not steps:
        raise UserError(
            f"{folder}: the run is not finished and has no checkpoint. Repeat the pmc unlearn "
            "command to finish the run."
        )
    newest = steps[-1]
    fix = "Repeat the pmc unlearn command to finish the run."
    total = checkpoints.read(newest, fix=fix)[1]["total_steps"]
    if partial:
        return newest, f"the weights of step {newest} of {total} of an unfinished run"
    raise UserError(
        f"{folder}: the run is not finished, and its newest checkpoint is at step {newest} of "
        f"{total}. Repeat the pmc unlearn command to finish the run, or pass --partial to write "
        f"{run_files.STEP_MODEL}{newest}/."
    )


def _source(folder: Path) -> dict[str, str]:
    """Returns the path of the source model, "" if it is not recorded, and its digest."""
    record = run_folder.read_record(folder / run_files.RUN)
    path = manifest.model_path(folder) or ""
    return {"path": path, "sha256": record["digests"].get("model", "")}


def _load_step(config: Config, folder: Path, checkpoints: Checkpoints, step: int) -> LanguageModel:
    """Loads the model from which the run started, with the weights of a checkpoint."""
    is_target = bool(config.finetune.data)
    fix = "Set model.path to that model"
    if is_target:
        fix = "Make the model with pmc finetune CONFIG --overwrite"
    lm = load(source_model(config, folder, fix=fix)[0], mesh=config)
    generator = TextGenerator.of(lm, config.model)
    # No step is taken, so the export needs no GPU for the attention kernel of the run.
    train = dataclasses.replace(config.train, attention="xla")
    trainer = Trainer(lm.model, lm.config, lm.layout, train, generator.dtype, donate=True)
    state, _ = checkpoints.read(step, trainer.abstract_state())
    trainer.load_state_dict(state)
    return generator.trained(trainer.release())
