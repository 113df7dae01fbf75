"""Measures a model (`pmc evaluate CONFIG`), or the models of a finished run before and after
unlearning and its reference (`pmc evaluate OUT`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_folder
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands.inputs import load_model, model_digest
from pmc_jax.config.loader import apply_overrides
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config, config_from_dict, model_path
from pmc_jax.data.records import EvalSet
from pmc_jax.data.sets import eval_sets, retain_set
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import AnswerCache, EvalContext, LoadedModel
from pmc_jax.evaluation.harness import ModelRef, evaluate
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.evaluation.tables import headline, tables
from pmc_jax.report.write import write
from pmc_jax.sampling.generator import TextGenerator


def run_evaluate(config: Config, *, say: Callable[[str], None]) -> dict[str, Any]:
    """`pmc evaluate CONFIG`: measures `model.path` on `data.evaluate`.

    Returns:
        Unlearn quality, utility and the splits, as `quality.of_recalls`; also `evaluation` if
        `evaluate.measures` is not empty.
    """
    sets = eval_sets(config)
    if not sets:
        raise UserError(
            "data.evaluate: names no split; add data.evaluate.forget.path=FILE or others"
        )
    path = model_path(config)
    folder = None if config.evaluate.dir is None else Path(config.evaluate.dir)
    evaluation = _evaluate(config, sets, {"after": model_ref(config, path, sets)}, folder)
    say(tables(evaluation))
    numbers = headline(evaluation, "after")
    return numbers | ({"evaluation": evaluation} if config.evaluate.wanted else {})


def run_evaluate_run(
    folder: Path, overrides: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, Any]:
    """`pmc evaluate OUT`: computes the measures of a finished run with its own settings.

    Returns:
        The contents of `evaluation.json`.
    """
    config = _settings_of(folder, overrides)
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
    """Measures the models before and after a finished run, and the reference.

    Args:
        caches: answers that the run has generated, by model (`before`, `after`).

    Returns:
        The contents of `evaluation.json`.
    """
    sets, caches = eval_sets(config), caches or {}
    if not sets:
        raise UserError("data.evaluate: names no split, so nothing can be measured")
    made = multihost.broadcast((folder / run_folder.TARGET).exists) and bool(config.finetune.data)
    first = str(folder / run_folder.TARGET) if made else model_path(config)
    paths = {"before": first, "after": str(folder / run_folder.MODEL)}
    models = {
        name: model_ref(config, path, sets, cache=caches.get(name)) for name, path in paths.items()
    }
    evaluation = _evaluate(config, sets, models, folder / run_folder.EVALUATION, recorder)
    if multihost.is_first():
        write_json(folder / run_folder.EVALUATION_RESULTS, evaluation)
    say(tables(evaluation))
    return evaluation


def finalize(folder: Path, *, text: bool, purge: bool = False) -> None:
    """Writes the report of a finished run; `purge` removes its answers first."""
    if multihost.is_first():
        if purge:
            manifest.purge(folder)
        write([folder], ReportConfig(text=text))


def eval_context(config: Config, sets: Sequence[EvalSet]) -> EvalContext:
    """The data and settings that models are evaluated with."""
    retain = config.data.retain
    rows = retain_set(retain, config.data) if retain.path else None
    named = {rows.name: rows for rows in sets}
    return EvalContext(named, rows, config.evaluate, config.data, config.seed, config.log.text)


def model_ref(
    config: Config,
    path: str,
    sets: Sequence[EvalSet],
    *,
    sha256: str | None = None,
    cache: AnswerCache | None = None,
) -> ModelRef:
    """A model folder, loaded only if some of its rows are missing.

    Args:
        sha256: digest of the model; None = computed here.
        cache: greedy answers of the model so far.
    """

    def load(name: str) -> LoadedModel:
        generator = TextGenerator.of(load_model(config, path), config.model)
        for rows in (s for s in sets if s.name in SPLITS):  # names a question that is too long
            generator.prompts(rows.questions, config.evaluate.max_new_tokens, ids=rows.ids)
        return LoadedModel(name, generator, cache or AnswerCache())

    return ModelRef(path, sha256 or model_digest(path), load)


def _evaluate(
    config: Config,
    sets: Sequence[EvalSet],
    models: dict[str, ModelRef],
    folder: Path | None,
    recorder: Recorder | None = None,
) -> dict[str, Any]:
    """Evaluates the models and the reference."""
    if config.evaluate.reference is not None:
        models["reference"] = model_ref(config, config.evaluate.reference, sets)
    return evaluate(models, eval_context(config, sets), folder=folder, recorder=recorder)


def _settings_of(folder: Path, overrides: Sequence[str]) -> Config:
    """The settings of a finished run with overrides.

    Raises:
        UserError: the folder holds no finished run, or an override is invalid.
    """

    def read() -> dict[str, Any]:
        if not (folder / run_folder.RESULTS).is_file():
            raise UserError(f"{folder}: holds no finished run; run pmc unlearn first")
        return json.loads((folder / run_folder.RUN).read_text(encoding="utf-8"))["settings"]

    settings, faults = apply_overrides(multihost.broadcast(read), overrides)
    if faults:
        raise UserError(" ".join(faults))
    return config_from_dict(settings, where=f"{folder} with overrides")
