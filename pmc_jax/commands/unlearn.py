"""What the commands do: settings in, an output folder out, in a straight line."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_folder
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.artifacts.timer import Stopwatch
from pmc_jax.commands import finished
from pmc_jax.commands.console import final_tables
from pmc_jax.commands.evaluate import evaluate_finished
from pmc_jax.commands.finetune import _target_line
from pmc_jax.commands.inputs import _loaded, check_fits, input_files, model_digest
from pmc_jax.commands.target import Target
from pmc_jax.commands.unlearning_run import RunData, unlearn
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config, model_path, output_dir, to_dict
from pmc_jax.data.sets import (
    eval_sets,
    finetune_rows,
    forget_answer_set,
    forget_set,
    needed,
    retain_set,
)
from pmc_jax.distributed import multihost
from pmc_jax.evaluation.context import AnswerCache
from pmc_jax.report.write import write as write_report
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.refusals import refusals_for


def run_unlearn(
    config: Config,
    *,
    overwrite: bool,
    say: Callable[[str], None],
    purge: bool = False,
    caches: Mapping[str, AnswerCache] | None = None,
) -> dict[str, Any]:
    """`pmc unlearn`: the whole job, and `manifest.purge` at its end where asked for.

    Args:
        caches: greedy answers of the model `before` and `after` the run: read and filled.

    Returns:
        What `results.json` holds.
    """
    forget = forget_set(needed(config.data.forget, "data.forget"), config.data)
    retain = retain_set(needed(config.data.retain, "data.retain"), config.data)
    targets = None
    if METHODS[config.method.name].reads_true_answers:
        source = needed(config.data.forget_answers, "data.forget_answers")
        targets = forget_answer_set(source, config.data, forget)
    refusals = refusals_for(config.method)
    measured = eval_sets(config)
    target = Target.of(config, finetune_rows(config)) if config.finetune.data else None
    # Weights are large: a target has their digest already.
    made_of = {} if target is None else target.made_of
    digests = {"model": made_of.get("model") or model_digest(model_path(config))}
    digests |= {"forget": run_folder.data_digest(forget), "retain": run_folder.data_digest(retain)}
    if targets is not None:
        digests["targets"] = run_folder.data_digest(targets)
    digests |= {f"evaluate.{s.name}": run_folder.data_digest(s) for s in measured}
    if target is not None:
        digests["finetune"] = made_of["data"]
    # Faults show before a folder is claimed, an older run removed or a step trained.
    watch = Stopwatch()
    made = target is not None and target.is_made(overwrite=True)
    if target is None or made:
        lm = _loaded(config, target.folder if made else model_path(config), config.train)
    else:
        lm = _loaded(config, model_path(config), config.finetune)
    pairs = [retain] if target is None else [retain, target.rows]
    pairs += [] if targets is None else [targets]
    check_fits(config, TextGenerator.of(lm, config.model), forget, pairs, measured)
    claimed = run_folder.claim(
        output_dir(config), settings=to_dict(config), digests=digests, overwrite=overwrite
    )
    with claimed as folder:
        with (
            Checkpoints(
                folder.path / run_folder.CHECKPOINTS, keep=config.output.keep
            ) as checkpoints,
            _run_log(config, folder, checkpoints) as log,
            watch.compiling_apart(),
        ):
            recorder = Recorder(
                log=log,
                watch=watch,
                checkpoints=checkpoints,
                output=config.output,
                profile=folder.path / run_folder.PROFILE if config.profile else None,
            )
            if target is not None:
                lm = lm if made else target.make(lm, config, recorder)
                say(_target_line(target, made))
            rows = RunData(forget, retain, targets, refusals, measured)
            caches = caches or {"before": AnswerCache(), "after": AnswerCache()}
            results = unlearn(config, lm, rows, recorder, folder, say, caches)
            if config.evaluate.wanted or config.evaluate.reference:
                evaluate_finished(config, folder.path, caches=caches, recorder=recorder, say=say)
        if multihost.is_first():
            manifest.write(folder.path, input_files(config, digests["model"]), results)
            shown = ReportConfig(text=config.report.text and not purge)
            write_report([folder.path], shown, results=results)
        folder.finish(results)  # after it nothing is left to do that an interruption could lose
        if purge:
            finished.close(folder.path, purge=True, text=False)
    say(final_tables(results))
    return results


def is_finished(config: Config) -> bool:
    """Whether `output.dir` holds a finished run."""
    return multihost.broadcast_from_first(
        lambda: (Path(output_dir(config)) / run_folder.RESULTS).exists()
    )


def run_purge(config: Config, *, say: Callable[[str], None]) -> None:
    """`pmc unlearn --purge` on a finished run."""
    folder = output_dir(config)
    with run_folder.locked(folder):
        finished.close(Path(folder), purge=True, text=False)
    say(f"{folder}: the checkpoints, the texts of the log and those of the report are gone")


def _run_log(config: Config, folder: run_folder.OutputFolder, checkpoints: Checkpoints) -> RunLog:
    """The run's log; what an earlier attempt wrote that left no checkpoint is dropped."""
    log = RunLog(folder.path if multihost.is_first() else None, text=config.log.text)
    if folder.resuming and checkpoints.latest() is None and multihost.is_first():
        shutil.rmtree(folder.path / run_folder.TENSORBOARD, ignore_errors=True)
        log.resume(0)
    return log
