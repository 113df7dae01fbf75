"""What the commands do: settings in, an output folder out, in a straight line."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from pmc_jax import finished, hosts, manifest, output
from pmc_jax.answers import Speaker, compute_dtype, pmc_sampler
from pmc_jax.checkpoint import Checkpoints
from pmc_jax.config import Config, to_dict
from pmc_jax.data import sources
from pmc_jax.errors import UserError
from pmc_jax.evaluating import evaluate_finished
from pmc_jax.inputs import (
    check_fits,
    eval_sets,
    finetune_rows,
    input_files,
    model_digest,
    model_path,
    needed,
    output_dir,
    placed,
)
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel, load
from pmc_jax.recorder import Recorder
from pmc_jax.report.write import write as write_report
from pmc_jax.report_config import ReportConfig
from pmc_jax.stopwatch import Stopwatch
from pmc_jax.summary import final_tables
from pmc_jax.target import Target
from pmc_jax.tracker import RunLog
from pmc_jax.train_config import TrainConfig
from pmc_jax.unlearning.losses import METHODS
from pmc_jax.unlearning.refusals import refusals_for
from pmc_jax.unlearning_run import Asked, RunData, unlearn


def run_finetune(config: Config, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """`pmc finetune`: makes the target model under `output.dir/target`, or finds it made."""
    target = Target.of(config, finetune_rows(config))
    made = target.is_made(overwrite=overwrite)
    if not made:
        recorder = Recorder()
        with output.locked(output_dir(config), make=True), recorder.watch.compiling_apart():
            target.make(_loaded(config, model_path(config), config.finetune), config, recorder)
    say(_target_line(target, made))


def run_unlearn(
    config: Config,
    *,
    overwrite: bool,
    say: Callable[[str], None],
    purge: bool = False,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """`pmc unlearn`: the whole job, and `manifest.purge` at its end where asked for.

    Args:
        asked: greedy answers that runs from the same model share.

    Returns:
        What `results.json` holds.
    """
    forget = sources.forget_set(needed(config.data.forget, "data.forget"), config.data)
    retain = sources.retain_set(needed(config.data.retain, "data.retain"), config.data)
    targets = None
    if METHODS[config.method.name].reads_true_answers:
        source = needed(config.data.targets, "data.targets")
        targets = sources.target_set(source, config.data, forget)
    refusals = refusals_for(config.method)
    sets = eval_sets(config)
    target = Target.of(config, finetune_rows(config)) if config.finetune.data else None
    # Weights are large: a target has their digest already.
    made_of = {} if target is None else target.made_of
    digests = {"model": made_of.get("model") or model_digest(model_path(config))}
    digests |= {"forget": output.data_digest(forget), "retain": output.data_digest(retain)}
    if targets is not None:
        digests["targets"] = output.data_digest(targets)
    digests |= {f"evaluate.{s.name}": output.data_digest(s) for s in sets}
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
    check_fits(config, Speaker.of(lm, config.model), forget, pairs, sets)
    claimed = output.claim(
        output_dir(config), settings=to_dict(config), digests=digests, overwrite=overwrite
    )
    with claimed as folder:
        with (
            Checkpoints(folder.path / output.CHECKPOINTS, keep=config.output.keep) as checkpoints,
            _run_log(config, folder, checkpoints) as log,
            watch.compiling_apart(),
        ):
            recorder = Recorder(
                log=log,
                watch=watch,
                checkpoints=checkpoints,
                output=config.output,
                profile=folder.path / output.PROFILE if config.profile else None,
            )
            if target is not None:
                lm = lm if made else target.make(lm, config, recorder)
                say(_target_line(target, made))
            rows = RunData(forget, retain, targets, refusals, sets)
            results, known = unlearn(
                config, lm, rows, recorder, folder, say, Asked() if asked is None else asked
            )
            if config.evaluate.wanted or config.evaluate.reference:
                evaluate_finished(config, folder.path, known=known, recorder=recorder, say=say)
        if hosts.is_first():
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
    return hosts.from_first(lambda: (Path(output_dir(config)) / output.RESULTS).exists())


def run_purge(config: Config, *, say: Callable[[str], None]) -> None:
    """`pmc unlearn --purge` on a finished run."""
    folder = output_dir(config)
    with output.locked(folder):
        finished.close(Path(folder), purge=True, text=False)
    say(f"{folder}: the checkpoints, the texts of the log and those of the report are gone")


def _target_line(target: Target, made: bool) -> str:
    how = " (made before of the same settings and data)" if made else ""
    return f"target model: {target.folder}{how}"


def _run_log(config: Config, folder: output.OutputFolder, checkpoints: Checkpoints) -> RunLog:
    """The run's log; what an earlier attempt wrote that left no checkpoint is dropped."""
    log = RunLog(folder.path if hosts.is_first() else None, text=config.log.text)
    if folder.resuming and checkpoints.latest() is None and hosts.is_first():
        shutil.rmtree(folder.path / output.TENSORBOARD, ignore_errors=True)
        log.resume(0)
    return log


def run_sample(config: Config) -> list[dict[str, Any]]:
    """`pmc sample`: `pmc.num_samples` answers of `model.path` to every forget question."""
    forget = sources.forget_set(needed(config.data.forget, "data.forget"), config.data)
    lm = _loaded(config, model_path(config))
    speaker = Speaker.of(lm, config.model)
    pmc = config.pmc
    speaker.prompts(forget.questions, pmc.max_new_tokens, ids=forget.ids)  # names a long one
    answers = speaker.sample(
        speaker.snapshot(lm.model),
        forget.questions,
        pmc_sampler(pmc),
        num_samples=pmc.num_samples,
        max_new_tokens=pmc.max_new_tokens,
        batch_size=pmc.sample_batch_size,
        seed=config.seed,
    )
    return [
        {"id": id_, "question": question, "answers": texts}
        for id_, question, texts in zip(forget.ids, forget.questions, answers, strict=True)
    ]


def _loaded(config: Config, path: str | Path, trained: TrainConfig | None = None) -> LanguageModel:
    """The model; in float32 only where all its weights are trained."""
    whole = trained is not None and not trained.lora.rank
    dtype = jnp.dtype("float32") if whole else compute_dtype(config.model.compute_dtype)
    return load(path, **placed(config), dtype=dtype.name)


def run_export(config: Config, *, overwrite: bool, say: Callable[[str], None]) -> Path:
    """`pmc export`: the newest checkpoint of `output.dir`, or `model.path` itself where there is
    none.
    """
    folder = Path(output_dir(config))
    target = folder / output.MODEL
    if hosts.from_first(target.exists) and not overwrite:
        raise UserError(f"{target}: exists; move it away or pass --overwrite")
    made = folder / output.TARGET
    has_target = bool(config.finetune.data) and hosts.from_first(made.exists)
    base = str(made) if has_target else model_path(config)
    lm = load(base, **placed(config))
    with output.locked(folder, make=True):
        if hosts.from_first((folder / output.CHECKPOINTS).is_dir):
            lm = dataclasses.replace(lm, model=_newest(config, lm, folder / output.CHECKPOINTS))
            say(f"exporting the newest checkpoint of {folder}")
        else:
            say(f"no checkpoints in {folder}: exporting {base} as it is")
        export_hf(lm, target, replace=overwrite)
    say(f"wrote {target}")
    return target


def _newest(config: Config, lm: LanguageModel, folder: Path) -> Decoder:
    from pmc_jax.unlearning.trainer import Trainer

    dtype = Speaker.of(lm, config.model).dtype
    trainer = Trainer(lm.model, lm.config, lm.layout, config.train, 1, dtype, donate=True)
    with Checkpoints(folder, keep=config.output.keep) as checkpoints:
        found = checkpoints.restore_latest(trainer.abstract())
    if found is None:
        raise UserError(f"{folder}: holds no checkpoint; run pmc unlearn first")
    trainer.restore(found[1])
    return trainer.release()
