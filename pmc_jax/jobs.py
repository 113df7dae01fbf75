"""What the commands do: settings in, an output folder out, in a straight line."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from pmc_jax import finished, hosts, manifest, output
from pmc_jax.answers import Speaker, compute_dtype
from pmc_jax.checkpoint import Checkpoints
from pmc_jax.config import Config, EvaluateConfig, to_dict
from pmc_jax.data import sources
from pmc_jax.errors import UserError
from pmc_jax.evaluating import answers_known, evaluate_finished
from pmc_jax.evaluation.evaluate import answer_all, measure
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.evaluation.record import Rows
from pmc_jax.evaluation.rouge import rougeL_recall
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
from pmc_jax.models.peft import export_adapter
from pmc_jax.recorder import Recorder
from pmc_jax.report.write import write as write_report
from pmc_jax.report_config import ReportConfig
from pmc_jax.sampling.choose import Sampler
from pmc_jax.stopwatch import UNLEARNING_STAGES, Stopwatch
from pmc_jax.summary import examples, final_tables
from pmc_jax.target import Target
from pmc_jax.tracker import RunLog, plot_loss, read_log
from pmc_jax.train_config import TrainConfig
from pmc_jax.unlearning.loop import Unlearning


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
    config: Config, *, overwrite: bool, say: Callable[[str], None], purge: bool = False
) -> dict[str, Any]:
    """`pmc unlearn`: the whole job, and `manifest.purge` at its end where asked for.

    Returns:
        What `results.json` holds.
    """
    forget = sources.forget_set(needed(config.data.forget, "data.forget"), config.data)
    retain = sources.retain_set(needed(config.data.retain, "data.retain"), config.data)
    sets = eval_sets(config)
    target = Target.of(config, finetune_rows(config)) if config.finetune.data else None
    # Weights are large: a target has their digest already.
    made_of = {} if target is None else target.made_of
    digests = {"model": made_of.get("model") or model_digest(model_path(config))}
    digests |= {"forget": output.data_digest(forget), "retain": output.data_digest(retain)}
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
            results, known = _unlearn(config, lm, forget, retain, sets, recorder, folder, say)
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


def _unlearn(
    config, lm, forget, retain, sets, recorder, folder, say
) -> tuple[dict[str, Any], dict[str, Rows]]:
    """What `results.json` holds, and the rows of the answers that were asked for."""
    speaker = Speaker.of(lm, config.model)
    sets = [s for s in sets if s.name in SPLITS]
    asking = [q for s in sets for q in s.questions]
    resuming = folder.resuming and recorder.checkpoints.latest() is not None
    originals, before = [""] * len(forget), {}
    if not resuming:
        originals, before = _before(config, speaker, forget, asking, recorder)
        recorder.host["before"] = measure(sets, before)
        recorder.host["texts"] = before if config.log.text else {}
    run = Unlearning(
        speaker,
        forget,
        retain,
        pmc=config.pmc,
        train=config.train,
        data=config.data,
        seed=config.seed,
        originals=originals,
        recorder=recorder,
        donate=True,
    )
    if resuming and run.resume():
        say(f"resuming {folder.path} at step {run.done} of {run.total_steps}")

    def evaluate_if_due() -> None:
        every, steps = config.evaluate.every, [0, *(r["step"] for r in run.rounds)]
        if not every or steps[-1] // every == steps[-2] // every or run.done == run.total_steps:
            return
        now = _ask(speaker, run.trainer.model, asking, config.evaluate, "evaluate", recorder)
        numbers = measure(sets, now)
        found = {name: numbers[name] for name in ("unlearn_quality", "utility")}
        run.rounds[-1] |= found
        seconds = recorder.watch.seconds()
        spent = sum(seconds[name] for name in UNLEARNING_STAGES)
        recorder.log.scalars(run.done, **found, unlearning_seconds=spent)

    run.run(evaluate_if_due)
    run.save()
    recorder.checkpoints.wait()  # its copy of the state is freed before more memory is asked for
    lm = dataclasses.replace(lm, model=run.trainer.release())
    asking += forget.questions
    after = _ask(speaker, lm.model, asking, config.evaluate, "evaluate after", recorder)
    # What a run left that was interrupted after its export is replaced.
    export_hf(lm, folder.path / output.MODEL, replace=True)
    if run.trainer.adapters is not None:
        adapter = folder.path / output.ADAPTER
        export_adapter(lm, run.trainer.adapters, run.trainer.lora, adapter, replace=True)
    if hosts.is_first():
        plot_loss(read_log(folder.path / output.LOG), folder.path / output.LOSS_PLOT)
    texts = recorder.host["texts"]
    recorder.log.drop("answer")  # of an attempt that was interrupted after them
    for split in sets:
        pairs = zip(split.ids, split.questions, split.answers, strict=True)
        for id_, question, truth in pairs:
            recorder.log.event(
                "answer",
                split=split.name,
                id=id_,
                texts={
                    "question": question,
                    "truth": truth,
                    "before": texts.get(question),
                    "after": after[question],
                },
            )
    _log_questions(recorder.log, run, after)
    if config.log.text:
        say(examples(sets, texts, after))
    rows = {"before": before, "after": after}
    known = {n: answers_known(sets, a, text=config.log.text) for n, a in rows.items()}
    return {
        "before": recorder.host["before"],
        "after": measure(sets, after),
        "seconds": recorder.watch.seconds(),
        "tokens": {
            "sampled": run.usage.useful,
            "sample_slots": run.usage.computed,
            "trained": run.trainer.tokens,
        },
        "rounds": run.rounds,
        "versions": output.versions(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "config": to_dict(config),
    }, known


def _log_questions(log: RunLog, run: Unlearning, after: dict[str, str]) -> None:
    """A line a forget question: what became of it."""
    log.drop("question")
    for id_, question in zip(run.forget.ids, run.forget.questions, strict=True):
        score, final = run.store.score(id_), after[question]
        log.event(
            "question",
            id=id_,
            score=score if run.store.answer(id_) is not None else None,
            resolved=score <= 0,
            overlap=rougeL_recall(run.originals[id_], final),
            texts={
                "question": question,
                "original": run.originals[id_],
                "stored": run.store.answer(id_),
                "final": final,
            },
        )


def _before(config, speaker, forget, asking, recorder) -> tuple[list[str], dict[str, str]]:
    """The untouched model's greedy answers: the originals of PMC, and those of the evaluation."""
    length, model = config.pmc.max_new_tokens, speaker.lm.model
    settings = dataclasses.replace(config.evaluate, max_new_tokens=length)
    if length == config.evaluate.max_new_tokens:
        questions = [*forget.questions, *asking]
        answers = _ask(speaker, model, questions, settings, "evaluate before", recorder)
        return [answers[q] for q in forget.questions], answers
    originals = _ask(speaker, model, forget.questions, settings, "original answers", recorder)
    answers = _ask(speaker, model, asking, config.evaluate, "evaluate before", recorder)
    return [originals[q] for q in forget.questions], answers


def _ask(speaker, model: Decoder, questions, settings: EvaluateConfig, label: str, recorder):
    if not questions:
        return {}
    with recorder.watch.stage("evaluate"):
        weights = speaker.snapshot(model)
    return answer_all(
        speaker, weights, questions, settings, label=label, watch=recorder.watch, bars=recorder.bars
    )


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
        Sampler(pmc.temperature, pmc.top_k, pmc.top_p),
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
