"""Runs `pmc unlearn`, from the settings to the output folder."""

import contextlib
import dataclasses
import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_files, run_folder, trackers
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.commands.console import final_tables
from pmc_jax.commands.evaluate_job import evaluate_finished
from pmc_jax.commands.fits import check_fits, check_measured
from pmc_jax.commands.inputs import (
    changed_files,
    input_files,
    load_model,
    model_digest,
    other_digests,
    read_inputs,
)
from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.commands.purge import purge_run
from pmc_jax.commands.target import Target
from pmc_jax.commands.unlearning_run import unlearn
from pmc_jax.config.public import public_settings
from pmc_jax.config.reading import read_json
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config, model_path, output_dir
from pmc_jax.distributed import multihost
from pmc_jax.distributed.busy import busy
from pmc_jax.errors import first_of
from pmc_jax.evaluation.context import AnswerCache
from pmc_jax.report import model_card
from pmc_jax.report.write import write as write_report
from pmc_jax.sampling.generator import TextGenerator

_log = logging.getLogger(__name__)

_CHANGED = (
    "%s: these files were changed or removed during the run, which may have used their earlier "
    "content: %s. Restore the files, or run the same command with --overwrite to use their new "
    "content."
)


def run_unlearn(
    config: Config,
    *,
    overwrite: bool,
    say: Callable[[str], None],
    purge: bool = False,
    caches: Mapping[str, AnswerCache] | None = None,
) -> dict[str, Any]:
    """Runs a complete job, or resumes an unfinished run with the same settings and data.

    Args:
        overwrite: whether to replace an earlier run in the output folder.
        say: function that prints a text.
        purge: whether to remove the files that can reveal the data at the end (see `purge_run`).
        caches: greedy answers of the models `before` and `after`, which the run reads and extends.

    Returns:
        The contents of `results.json`.

    Raises:
        UserError: settings, rows or models are invalid, training diverges, or the output folder
            cannot be used.
        Stopped: the process was asked to stop; the same call resumes.
    """
    path = output_dir(config)
    trackers.check(config.log.trackers)
    inputs = read_inputs(config)
    if config.evaluate.computes_measures:
        check_measured(config, inputs.eval_sets)
    config = pin_date(config, path, overwrite=overwrite)
    target = None if inputs.target_rows is None else Target.of(config, inputs.target_rows)
    # Hashing the weights takes long, and `target` already holds the digest of the base model.
    digest = target.made_of["model"] if target else model_digest(model_path(config))
    others = other_digests(config, must_exist=True)
    claim = dict(
        settings=dataclasses.asdict(config),
        digests={"model": digest} | inputs.digests | others,
        overwrite=overwrite,
    )
    run_folder.check(path, **claim)  # before the model is loaded
    files = multihost.broadcast(lambda: input_files(config, digest))
    # The checks run before a folder is claimed, an older run is removed or a step is trained.
    watch = Stopwatch()
    made = target is not None and target.is_made(overwrite=overwrite)
    reference = None
    if inputs.reference_rows is not None:
        reference = target.reference(inputs.reference_rows)
        reference.is_made(overwrite=overwrite)  # raises an error before anything is trained
    trained = config.train if target is None or made else config.finetune
    lm = load_model(config, target.folder if made else model_path(config), trained)
    generator = TextGenerator.of(lm, config.model)
    check_fits(config, generator, inputs)
    caches = caches or {"before": AnswerCache(), "after": AnswerCache()}
    with run_folder.claim(path, **claim) as folder:
        with _recording(config, folder, watch) as recorder:
            if target is not None:
                if not made:
                    generator = dataclasses.replace(generator, lm=target.make(lm, config, recorder))
                say(target.line(made))
            if reference is not None:
                _make_reference(reference, config, recorder, overwrite=overwrite, say=say)
            results = unlearn(config, generator, inputs, recorder, folder, say, caches)
            if results["step"] and multihost.is_first():
                card = dict(source=files["model"], step=results["step"], results=results)
                model_card.write(folder.path / run_files.MODEL, config, **card)
            evaluation = None
            if (
                config.evaluate.computes_measures and results["step"]
            ):  # Without a step, there is no unlearned model.
                # The verdict comes before the tables of the evaluation.
                how = dict(caches=caches, recorder=recorder, say=lambda text: None)
                evaluation = evaluate_finished(config, folder.path, **how)
        if multihost.is_first():
            with busy("write the manifest and the report"):
                if changed := changed_files(files):
                    _log.warning(_CHANGED, folder.path, first_of(changed, 3))
                # The report reads this file, which may have been removed or changed.
                write_json(folder.path / run_files.RUN, folder.finished_record)
                manifest.write(folder.path, files, results, folder.finished_record)
                shown = ReportConfig(text=config.report.text and not purge)
                write_report([folder.path], shown, results=results)
        folder.finish(results)  # an interruption after this line loses no result
        if purge:
            purge_run(folder.path, say=say)
    say(final_tables(results, evaluation))
    return results


def _make_reference(
    reference: Target,
    config: Config,
    recorder: Recorder,
    *,
    overwrite: bool,
    say: Callable[[str], None],
) -> None:
    """Makes the reference model unless it exists already."""
    made = reference.is_made(overwrite=overwrite)
    if not made:
        lm = load_model(config, model_path(config), config.finetune)
        # The log of the run has the losses of the target model only.
        reference.make(lm, config, dataclasses.replace(recorder, log=RunLog(None)))
        del lm
        gc.collect()  # frees the model before unlearning, because reference cycles hold it
    say(reference.line(made))


def is_finished(config: Config) -> bool:
    """Returns whether `output.dir` holds a finished run."""
    return multihost.broadcast(lambda: (Path(output_dir(config)) / run_files.RESULTS).exists())


def run_purge(folder: Path, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Removes the files of a finished run that can reveal the data (see `purge.purge_run`).

    Returns:
        The contents of `results.json`.
    """
    with run_folder.locked(folder):
        purge_run(folder, say=say)
    hint = "Pass the folder of a finished run."
    return multihost.broadcast(lambda: read_json(folder / run_files.RESULTS, hint=hint))


@contextlib.contextmanager
def _recording(
    config: Config, folder: run_folder.OutputFolder, watch: Stopwatch
) -> Iterator[Recorder]:
    """Opens the log and the checkpoints of a run and yields its recorder."""
    checkpoint_folder = folder.path / run_files.CHECKPOINTS
    with (
        Checkpoints(checkpoint_folder, keep=config.output.keep) as checkpoints,
        RunLog(
            folder.path if multihost.is_first() else None,
            config.log.text,
            config.log.trackers,
            public_settings(config),
        ) as log,
        watch.compiling_apart(),
    ):
        # If the interrupted run has no checkpoint, the run and its log start again at step 0.
        if folder.resuming and checkpoints.latest() is None and multihost.is_first():
            log.resume(0)
        yield Recorder(
            log=log,
            watch=watch,
            checkpoints=checkpoints,
            output=config.output,
            profile=folder.path / run_files.PROFILE if config.profile else None,
        )
