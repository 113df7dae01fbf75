"""Runs the stages of an unlearning run: measure, unlearn, measure again and export."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from pmc_jax.artifacts import run_files, run_folder
from pmc_jax.artifacts.log import plot_loss, read_log
from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.commands.answer_log import log_answers, log_questions, words_of
from pmc_jax.commands.build import build_run
from pmc_jax.commands.console import examples
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.commands.keep_best import protect_best, return_to_best
from pmc_jax.commands.own_answers import saved_pairs, with_own_answers
from pmc_jax.config.run import Config
from pmc_jax.data.records import EvalSet
from pmc_jax.distributed import multihost, preemption
from pmc_jax.distributed.busy import busy
from pmc_jax.evaluation.context import AnswerCache, LoadedModel
from pmc_jax.evaluation.forgotten import summary
from pmc_jax.evaluation.harness import measure_quality
from pmc_jax.evaluation.heldout import cost_of, heldout_recall
from pmc_jax.evaluation.levels import measure_levels, paraphrases_of, secrets_of
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.models.export import export_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.peft import export_adapter
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.theory.reward_moments import reward_moments
from pmc_jax.unlearning.loop import Unlearning
from pmc_jax.unlearning.own_retain import describe
from pmc_jax.unlearning.pmc import original_answers

_log = logging.getLogger(__name__)

_HELDOUT = "heldout"  # key of the recall on held-out retain pairs in the state of a run


def unlearn(
    config: Config,
    generator: TextGenerator,
    inputs: RunInputs,
    recorder: Recorder,
    folder: run_folder.OutputFolder,
    say: Callable[[str], None],
    caches: Mapping[str, AnswerCache],
) -> dict[str, Any]:
    """Executes a run or resumes an interrupted run, from the first measurement to the export.

    Args:
        config: settings of the run.
        generator: target model, whose buffers are donated.
        inputs: rows of the run.
        recorder: log, stopwatch and checkpoints of the run.
        folder: output folder, which the caller has claimed.
        say: function that prints a text.
        caches: greedy answers of the models `before` and `after`, which the run reads and extends.

    Returns:
        The contents of `results.json`.
    """
    run_state, forget = RunState(), inputs.forget
    sets = [s for s in inputs.eval_sets if s.name in SPLITS]
    resuming = folder.resuming and recorder.checkpoints.latest() is not None
    originals = [""] * len(forget)
    if resuming:
        run_state.own_pairs = inputs.own and saved_pairs(recorder.checkpoints)
    else:
        originals = _measure_before(
            config, generator, inputs, sets, recorder, run_state, caches["before"]
        )
    inputs = with_own_answers(inputs, generator, originals, config, recorder, run_state)
    if inputs.own is not None:
        say(describe(inputs.own, inputs.retain, forget))
    how = dict(config=config, recorder=recorder, run_state=run_state, donate=True)
    with busy("prepare the run"):
        run = build_run(generator, inputs, originals, **how)
    if resuming and run.resume():
        protect_best(config, run)
        say(f"{folder.path}: the run resumes at step {run.done} of {run.total_steps}")
    _run_rounds(config, run, sets, caches["after"])
    if run.stopped:
        done = f"step {run.done} of {run.total_steps}"
        say(f"{folder.path}: the run stopped after {done}, because {run.stopped}")
    step, why = return_to_best(config, run, folder.path)
    if step != run.done:
        caches["after"].by_length.clear()  # The cached answers are those of the last step.
    if why:
        say(f"{folder.path}: pmc exports step {step} of {run.total_steps}: {why}")
    lm = generator.trained(run.trainer.release())
    model = LoadedModel.of("evaluate after", generator, lm.model, caches["after"])
    heldout = inputs.heldout_retain
    questions = [*_questions(sets), *forget.questions, *heldout.questions]
    numbers, answers = measure_quality(
        model, sets, config.evaluate, config.data, questions, recorder
    )
    recorder.log.track(step, **_quality(numbers))
    levels, forgotten = _measure_levels(config, run, model, inputs)
    del model  # frees the sampling copy of the weights before the export
    _export(run, lm, folder, step)
    log_answers(recorder.log, sets, run_state.texts, answers)
    words = words_of(config, sets, run.source)
    log_questions(recorder.log, inputs, run.source, answers, levels, words)
    if config.log.text:
        say(examples(sets, run_state.texts, answers))
    results = _results(config, run, numbers, words)
    recall = heldout_recall(heldout, answers, config.data.words)
    cost = _cost(inputs, sets, results["before"].pop(_HELDOUT, None), recall)
    return results | {"step": step, "best": why, "forgotten": forgotten, "heldout": cost}


def _measure_before(
    config: Config,
    generator: TextGenerator,
    inputs: RunInputs,
    sets: Sequence[EvalSet],
    recorder: Recorder,
    run_state: RunState,
    cache: AnswerCache,
) -> list[str]:
    """Measures the model before unlearning and returns its original answers.

    The function writes the measurements to `run_state`. The original answers have at most
    `pmc.sampling.max_new_tokens` tokens, like the samples of PMC.
    """
    questions, length = inputs.forget.questions, config.pmc.sampling.max_new_tokens
    together = length == config.evaluate.max_new_tokens
    if not together:
        settings = dataclasses.replace(config.evaluate, max_new_tokens=length)
        model = LoadedModel("original answers", generator, cache)
        originals = original_answers(
            questions, lambda texts: model.greedy(texts, settings, recorder)
        )
    model = LoadedModel("evaluate before", generator, cache)
    heldout = inputs.heldout_retain
    all_questions = [
        *(questions if together else ()),
        *_questions(sets),
        *heldout.questions,
    ]
    numbers, answers = measure_quality(
        model, sets, config.evaluate, config.data, all_questions, recorder
    )
    recorder.log.track(0, **_quality(numbers))
    run_state.before = numbers | {_HELDOUT: heldout_recall(heldout, answers, config.data.words)}
    run_state.texts = answers if config.log.text else {}
    return original_answers(questions, lambda _: answers) if together else originals


def _cost(
    inputs: RunInputs, sets: Sequence[EvalSet], before: float | None, after: float | None
) -> dict[str, Any]:
    """Returns the field `heldout` of results.json.

    Args:
        before, after: recall on the held-out retain pairs before and after unlearning.
    """
    rows = inputs.heldout_retain
    evaluated = [split.questions for split in sets if split.name == "retain"]
    shared = {*rows.questions}.intersection(*evaluated) if evaluated else ()
    return cost_of(rows, inputs.not_heldout, before, after) | {"evaluated": len(shared)}


def _questions(sets: Sequence[EvalSet]) -> list[str]:
    return [question for rows in sets for question in rows.questions]


def _run_rounds(
    config: Config, run: Unlearning, sets: Sequence[EvalSet], cache: AnswerCache
) -> None:
    """Executes the remaining rounds and the measurements between them."""

    def after_round() -> bool:
        _measure_rewards(config, run)
        _evaluate_if_due(config, run, sets, cache)
        return protect_best(config, run)

    if not run.done:
        _measure_rewards(config, run)
    with preemption.saving():
        run.run(after_round)
        if config.output.checkpoint_end:
            run.save()
        # This frees the copy of the state before evaluation needs memory.
        run.recorder.checkpoints.wait()


def _measure_rewards(config: Config, run: Unlearning) -> None:
    """Records E[e^r] and Var[e^r] of the reward r = 1 - score of new samples.

    Nothing is recorded if `pmc.reward_samples` is 0 or the method does not sample.
    """
    state = run.run_state
    if not config.pmc.reward_samples:
        return
    if state.reward_moments and state.reward_moments["moments"][-1]["step"] == run.done:
        return  # the interrupted run has already made this measurement
    scores = run.source.fresh_scores(run.trainer.model)
    if scores is None:
        return
    if state.reward_moments is None:
        state.reward_moments = {"start": scores.tolist(), "moments": []}
    state.reward_moments["moments"].append({"step": run.done, **reward_moments(scores)})


def _evaluate_if_due(
    config: Config, run: Unlearning, sets: Sequence[EvalSet], cache: AnswerCache
) -> None:
    """Measures the model after a round in which an evaluation is due.

    `evaluate.every` and `evaluate.at_seconds` set when evaluations are due. After the last round,
    an evaluation is due only with `evaluate.keep_best`, because the evaluation after unlearning
    follows. The answers after the last round are added to `cache`.
    """
    every, steps = config.evaluate.every, [0, *(r["step"] for r in run.rounds)]
    spent, ends = run.spent(), run.stopped or run.done == run.total_steps
    earlier = max([0.0, *(r.get("unlearning_seconds", 0.0) for r in run.rounds)])
    timed = any(earlier < t <= spent for t in config.evaluate.at_seconds)
    stepped = every and steps[-1] // every != steps[-2] // every
    due = config.evaluate.keep_best is not None if ends else timed or stepped
    if not multihost.broadcast(lambda: bool(due)):
        return
    cache = cache if ends else None
    model = LoadedModel.of("evaluate", run.generator, run.trainer.model, cache)
    numbers, _ = measure_quality(
        model, sets, config.evaluate, config.data, _questions(sets), run.recorder
    )
    shown = _quality(numbers)
    run.rounds[-1] |= shown
    # Seconds differ between equal runs, so they are stored only on request.
    if config.evaluate.at_seconds:
        run.rounds[-1]["unlearning_seconds"] = spent
    run.recorder.log.scalars(run.done, **shown, unlearning_seconds=spent)


def _quality(numbers: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: numbers[name] for name in ("unlearn_quality", "utility")}


def _measure_levels(
    config: Config, run: Unlearning, model: LoadedModel, inputs: RunInputs
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measures which questions are forgotten.

    Returns:
        The levels of each question (see `measure_levels`), and their counts (see `summary`).
    """
    forget, settings = inputs.forget, config.evaluate
    originals = [run.source.originals[id_] for id_ in forget.ids]
    with busy("find the secrets"):
        secrets = secrets_of(forget, originals, inputs.eval_sets, inputs.retain, settings)
    paraphrases, why_not = paraphrases_of(forget, inputs.eval_sets)
    how = dict(seed=config.seed, recorder=run.recorder)
    levels = measure_levels(model, forget, secrets, paraphrases, settings, **how)
    return levels, summary(levels, settings.levels, why_not)


def _export(run: Unlearning, lm: LanguageModel, folder: run_folder.OutputFolder, step: int) -> None:
    """Writes the weights of a step, their adapters and the loss plot.

    Existing files are replaced. At step 0, the function logs a warning and writes nothing, because
    the weights are not unlearned.
    """
    if step == 0:
        _log.warning(
            "%s: the run ended at step 0 of %d, so the weights are not unlearned and pmc writes no "
            "model/. Increase pmc.schedule.epochs.",
            *(folder.path, run.total_steps),
        )
        return
    with busy("write the model"):
        export_hf(lm, folder.path / run_files.MODEL, replace=True)
        if run.trainer.adapters is not None:
            adapter = folder.path / run_files.ADAPTER
            export_adapter(lm, run.trainer.adapters, run.trainer.lora, adapter, replace=True)
    if multihost.is_first():
        plot_loss(read_log(folder.path / run_files.LOG), folder.path / run_files.LOSS_PLOT)


def _results(
    config: Config, run: Unlearning, after: Mapping[str, Any], words: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the contents of `results.json`."""
    usage = run.source.usage
    return {
        "before": run.run_state.before,
        "after": after,
        "seconds": run.recorder.watch.seconds(),
        "tokens": {
            "sampled": usage.useful,
            "sample_slots": usage.computed,
            "ended_early": usage.cut,
            "trained": run.trainer.tokens,
        },
        "rounds": run.rounds,
        "total_steps": run.total_steps,
        "stopped": run.stopped,
        "words": words,
        "unlearning_seconds": run.spent(),
        "reward_moments": run.run_state.reward_moments,
        "versions": run_folder.versions(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "config": dataclasses.asdict(config),
    }
