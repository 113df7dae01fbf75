"""Runs `pmc evaluate` for one model or for the models of a finished run.

`pmc evaluate CONFIG` measures one model. `pmc evaluate OUTPUT_FOLDER` measures the models before
and after unlearning of a finished run, and the reference model.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.artifacts.digests import data_digest
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.fits import check_evaluation, check_measured, check_prompts
from pmc_jax.commands.inputs import load_model, model_digest
from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.commands.recorded import (
    finished_config,
    recorded_config,
    source_model,
    unlearned_model,
)
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config, model_path
from pmc_jax.data.records import EvalSet
from pmc_jax.data.sets import eval_sets, retain_set
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import AnswerCache, EvalContext, LoadedModel, ModelRef
from pmc_jax.evaluation.harness import evaluate
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.evaluation.tables import headline, tables
from pmc_jax.report.write import write
from pmc_jax.sampling.generator import TextGenerator


def run_evaluate(config: Config, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures the model in `model.path` on `data.evaluate` for `pmc evaluate CONFIG`.

    Returns:
        The numbers that `quality.of_recalls` returns, and the name of the rule for ROUGE's words
        as `words`. If `evaluate.measures` is not empty, the key `evaluation` has the contents of
        `evaluation.json`.

    Raises:
        UserError: `data.evaluate` is empty, or a model or a row is invalid.
    """
    config = _with_reference(config, config.output.dir)
    sets = eval_sets(config)
    check_measured(config, sets)
    path = model_path(config)
    config = pin_date(config, config.output.dir)
    folder = None if config.evaluate.dir is None else Path(config.evaluate.dir)
    evaluation = _evaluate(config, sets, {"after": model_ref(config, path, sets)}, folder)
    say(tables(evaluation))
    numbers = headline(evaluation, "after") | {"words": evaluation["words"]}
    return numbers | ({"evaluation": evaluation} if config.evaluate.wanted else {})


def run_evaluate_run(
    folder: Path, overrides: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, Any]:
    """Computes the measures of a finished run for `pmc evaluate OUTPUT_FOLDER`.

    Args:
        folder: output folder of the run, whose recorded settings are used.
        overrides: changes of the recorded settings, each as "section.key=value".

    Returns:
        The contents of `evaluation.json`.

    Raises:
        UserError: the folder holds no finished run, a model or the data cannot be read, or the
            evaluation rows are not those of the run although no override changes `data`.
        Stopped: the process was asked to stop; the same call resumes.
    """
    config = finished_config(folder, overrides)
    _check_rows(config, folder)
    if config.model.date is not None:
        say(f"{folder}: the evaluation uses {config.model.date} as today's date (model.date)")
    with run_folder.locked(folder):
        evaluation = evaluate_finished(config, folder, say=say)
        finalize(folder, text=config.report.text)
    return evaluation


def evaluate_finished(
    config: Config,
    folder: Path,
    *,
    caches: Mapping[str, AnswerCache] | None = None,
    recorder: Recorder | None = None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures the models before and after a finished run, and the reference model.

    Args:
        config: settings of the run.
        folder: output folder of the run.
        caches: greedy answers of the models `before` and `after` that the run has already
            generated.
        recorder: stopwatch and progress bars; None uses new ones.

    Returns:
        The contents of `evaluation.json`.

    Raises:
        UserError: `data.evaluate` is empty, or a model of the run was removed or changed.
        Stopped: the process was asked to stop; the same call resumes.
    """
    config = _with_reference(config, folder)
    sets, caches = eval_sets(config), caches or {}
    check_measured(config, sets)
    after = unlearned_model(folder)
    fix = f"To measure only the unlearned model, run pmc evaluate CONFIG model.path={after}"
    before, digest = source_model(config, folder, fix=fix)
    models = {
        "before": model_ref(config, before, sets, sha256=digest, cache=caches.get("before")),
        "after": model_ref(config, str(after), sets, cache=caches.get("after")),
    }
    evaluation = _evaluate(config, sets, models, folder / run_files.EVALUATION, recorder)
    if multihost.is_first():
        write_json(folder / run_files.EVALUATION_RESULTS, evaluation)
    say(tables(evaluation))
    return evaluation


def finalize(folder: Path, *, text: bool) -> None:
    """Writes the report of a finished run, and records the new evaluation in its manifest.

    Args:
        folder: output folder of the run.
        text: whether the report shows the questions and answers in the log.
    """
    if multihost.is_first():
        manifest.record(folder, (run_files.EVALUATION, run_files.EVALUATION_RESULTS))
        write([folder], ReportConfig(text=text))


def eval_context(config: Config, sets: Sequence[EvalSet]) -> EvalContext:
    """Returns the context of an evaluation: the data, the settings and the never-saw models."""
    rows = retain_set(config.data.retain, config.data)
    named = {rows.name: rows for rows in sets}
    paths = config.evaluate.never_saw if "indistinguishable" in config.evaluate.wanted else ()
    return EvalContext(
        named,
        rows if len(rows) else None,
        config.evaluate,
        config.data,
        config.seed,
        config.log.text,
        tuple(model_ref(config, path, sets) for path in paths),
        config.model,
    )


def model_ref(
    config: Config,
    path: str,
    sets: Sequence[EvalSet],
    *,
    sha256: str | None = None,
    cache: AnswerCache | None = None,
) -> ModelRef:
    """Returns a reference to a model, which is loaded only if some results are missing.

    Args:
        sha256: digest of the model files; None computes the digest here.
        cache: greedy answers that the model has already generated.
    """

    def load(name: str) -> LoadedModel:
        generator = TextGenerator.of(load_model(config, path), config.model)
        asked = [rows for rows in sets if rows.name in SPLITS]
        length = config.evaluate.max_new_tokens
        prompts = check_prompts(generator, [(rows, length) for rows in asked])
        check_evaluation(config, generator, asked, prompts)
        return LoadedModel(name, generator, cache or AnswerCache())

    return ModelRef(path, sha256 or model_digest(path), load)


def _evaluate(
    config: Config,
    sets: Sequence[EvalSet],
    models: dict[str, ModelRef],
    folder: Path | None,
    recorder: Recorder | None = None,
) -> dict[str, Any]:
    """Evaluates the models and, if `evaluate.reference` is set, the reference model."""
    if config.evaluate.reference is not None:
        models["reference"] = model_ref(config, config.evaluate.reference, sets)
    return evaluate(models, eval_context(config, sets), folder=folder, recorder=recorder)


def _with_reference(config: Config, folder: str | Path | None) -> Config:
    """Returns settings that name the reference model in the folder of a run, if pmc made one."""
    if not config.evaluate.makes_reference:
        return config
    made = None if folder is None else Path(folder) / run_files.REFERENCE
    exists = made is not None and multihost.broadcast((made / run_files.TARGET_MARK).is_file)
    if not exists:
        return config
    evaluate = dataclasses.replace(config.evaluate, reference=str(made))
    return dataclasses.replace(config, evaluate=evaluate)


def _check_rows(config: Config, folder: Path) -> None:
    """Raises a `UserError` if the rows of evaluation sets have changed since the run.

    There is no check if an override changes the section `data`, because it may select other rows.
    """
    if config.data != recorded_config(folder).data:
        return
    record = multihost.broadcast(lambda: run_folder.read_record(folder / run_files.RUN))
    digests = {f"evaluate.{rows.name}": data_digest(rows) for rows in eval_sets(config)}
    changed = [f"data.{name}" for name in digests if record["digests"].get(name) != digests[name]]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: the rows have changed since the run in {folder}. Restore the "
            f"files, or set {changed[0]}.path to another file."
        )
