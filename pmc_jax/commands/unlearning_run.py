"""One unlearning run inside a claimed output folder: measure, unlearn, measure, export."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.log import RunLog, plot_loss, read_log
from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.build import build_run
from pmc_jax.commands.console import examples
from pmc_jax.config.run import Config, to_dict
from pmc_jax.data.records import EvalSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.distributed import multihost
from pmc_jax.evaluation.context import AnswerCache, LoadedModel
from pmc_jax.evaluation.harness import measure_quality
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.theory import reward_moments
from pmc_jax.unlearning.source import RowSource


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run reads.

    Attributes:
        forget: the questions.
        retain: pairs to keep.
        targets: the true answers to the questions, for methods that train on them; else None.
        refusals: for methods that train on them; else empty.
        sets: what is measured.
    """

    forget: ForgetSet
    retain: RetainSet
    targets: ForgetAnswerSet | None
    refusals: Sequence[str]
    sets: Sequence[EvalSet]


def unlearn(
    config: Config,
    lm: LanguageModel,
    data: RunData,
    recorder: Recorder,
    folder: run_folder.OutputFolder,
    say: Callable[[str], None],
    caches: Mapping[str, AnswerCache],
) -> dict[str, Any]:
    """The run, gone on with where it was interrupted; `lm`'s buffers are taken over.

    Args:
        caches: greedy answers of the model `before` and `after` the run: read and filled.

    Returns:
        What `results.json` holds.
    """
    generator, forget = TextGenerator.of(lm, config.model), data.forget
    sets = [s for s in data.sets if s.name in SPLITS]
    asking = [q for s in sets for q in s.questions]
    run_state = RunState()
    how = dict(watch=recorder.watch, bars=recorder.bars)
    resuming = folder.resuming and recorder.checkpoints.latest() is not None
    originals = [""] * len(forget)
    if not resuming:
        originals, run_state.before, before = _before(
            config, generator, data, sets, recorder, caches["before"]
        )
        run_state.texts = before if config.log.text else {}
    run = build_run(
        generator,
        forget,
        data.retain,
        originals=originals,
        forget_answers=data.targets,
        refusals=data.refusals,
        config=config,
        recorder=recorder,
        run_state=run_state,
        donate=True,
    )
    source = run.source
    if resuming and run.resume():
        say(f"resuming {folder.path} at step {run.done} of {run.total_steps}")

    def after_round() -> None:
        measure_probe()
        evaluate_if_due()

    def measure_probe() -> None:
        """E[e^r] and Var[e^r] as the model is now."""
        if not config.pmc.reward_samples:
            return
        if run_state.reward_moments is None:
            run_state.reward_moments = {"start": None, "moments": []}
        found = run_state.reward_moments
        if not found["moments"] or found["moments"][-1]["step"] < run.done:
            scores = source.fresh_scores(run.trainer.model)
            if scores is None:
                return
            found["start"] = scores.tolist() if found["start"] is None else found["start"]
            found["moments"].append({"step": run.done, **reward_moments(scores)})

    def evaluate_if_due() -> None:
        every, steps = config.evaluate.every, [0, *(r["step"] for r in run.rounds)]
        spent, ends = run.spent(), run.stopped or run.done == run.total_steps
        earlier = max([0.0, *(r.get("unlearning_seconds", 0.0) for r in run.rounds)])
        timed = any(earlier < t <= spent for t in config.evaluate.at_seconds)
        stepped = every and steps[-1] // every != steps[-2] // every
        if ends or not multihost.broadcast_from_first(lambda: bool(timed or stepped)):
            return
        model = LoadedModel.of("evaluate", generator, run.trainer.model)
        numbers, _ = measure_quality(model, sets, config.evaluate, asking, **how)
        found = {name: numbers[name] for name in ("unlearn_quality", "utility")}
        run.rounds[-1] |= found
        if config.evaluate.at_seconds:  # else rounds are the same in every run
            run.rounds[-1]["unlearning_seconds"] = spent
        recorder.log.scalars(run.done, **found, unlearning_seconds=spent)

    if not run.done:
        measure_probe()
    run.run(after_round)
    if config.output.checkpoint_end:
        run.save()
    if run.stopped:
        say(f"stopped after step {run.done} of {run.total_steps}: {run.stopped}")
    recorder.checkpoints.wait()  # its copy of the state is freed before more memory is asked for
    lm = dataclasses.replace(lm, model=run.trainer.release())
    asking += forget.questions
    model = LoadedModel.of("evaluate after", generator, lm.model, caches["after"])
    numbers, after = measure_quality(model, sets, config.evaluate, asking, **how)
    del model  # its weights as sampling reads them are freed before the export
    # What a run left that was interrupted after its export is replaced.
    export_hf(lm, folder.path / run_folder.MODEL, replace=True)
    if run.trainer.adapters is not None:
        adapter = folder.path / run_folder.ADAPTER
        export_adapter(lm, run.trainer.adapters, run.trainer.lora, adapter, replace=True)
    if multihost.is_first():
        plot_loss(read_log(folder.path / run_folder.LOG), folder.path / run_folder.LOSS_PLOT)
    texts = run_state.texts
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
    _log_questions(recorder.log, forget, source, after)
    if config.log.text:
        say(examples(sets, texts, after))
    usage = source.usage
    return {
        "before": run_state.before,
        "after": numbers,
        "seconds": recorder.watch.seconds(),
        "tokens": {
            "sampled": usage.useful,
            "sample_slots": usage.computed,
            "trained": run.trainer.tokens,
        },
        "rounds": run.rounds,
        "stopped": run.stopped,
        "unlearning_seconds": run.spent(),
        "reward_moments": run_state.reward_moments,
        "versions": run_folder.versions(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "config": to_dict(config),
    }


def _log_questions(
    log: RunLog, forget: ForgetSet, source: RowSource, after: dict[str, str]
) -> None:
    """A line a forget question: what became of it."""
    log.drop("question")
    replacements = source.replacements
    for id_, question in zip(forget.ids, forget.questions, strict=True):
        stored, score = replacements.get(id_, (None, None))
        original, final = source.originals[id_], after[question]
        log.event(
            "question",
            id=id_,
            score=score,
            has_replacement=score is not None and score <= 0,
            overlap=rougeL_recall(original, final),
            texts={
                "question": question,
                "original": original,
                "stored": stored,
                "final": final,
            },
        )


def _before(
    config: Config,
    generator: TextGenerator,
    data: RunData,
    sets: Sequence[EvalSet],
    recorder: Recorder,
    cache: AnswerCache,
) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """The untouched model's greedy answers to the forget questions, its numbers, and its answers
    to the questions of the evaluation.
    """
    questions, length = data.forget.questions, config.pmc.sampling.max_new_tokens
    how = dict(watch=recorder.watch, bars=recorder.bars)
    model = LoadedModel("evaluate before", generator, cache)
    asking = [q for s in sets for q in s.questions]
    if length == config.evaluate.max_new_tokens:
        asking = [*questions, *asking]
        numbers, answers = measure_quality(model, sets, config.evaluate, asking, **how)
        return [answers[q] for q in questions], numbers, answers
    settings = dataclasses.replace(config.evaluate, max_new_tokens=length)
    originals = LoadedModel("original answers", generator, cache).greedy(questions, settings, **how)
    numbers, answers = measure_quality(model, sets, config.evaluate, asking, **how)
    return [originals[q] for q in questions], numbers, answers
