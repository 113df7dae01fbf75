"""The commands that measure: a model (`pmc evaluate CONFIG`) or a finished run (`pmc evaluate
OUT`), whose model before and after unlearning and whose reference stand side by side.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.commands import finished
from pmc_jax.commands.inputs import model_digest, placed
from pmc_jax.config.loader import apply_overrides
from pmc_jax.config.run import Config, config_from_dict, model_path
from pmc_jax.data.records import EvalSet
from pmc_jax.data.sets import eval_sets, retain_set
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import EvalContext, LoadedModel
from pmc_jax.evaluation.harness import Place, evaluate
from pmc_jax.evaluation.quality import SPLITS
from pmc_jax.evaluation.result import Rows
from pmc_jax.evaluation.tables import headline, tables
from pmc_jax.evaluation.tasks import answer_row
from pmc_jax.models.load import load
from pmc_jax.sampling.generator import TextGenerator, compute_dtype


def run_evaluate(config: Config, *, say: Callable[[str], None]) -> dict[str, Any]:
    """`pmc evaluate CONFIG`: the numbers of `model.path` on `data.evaluate`.

    Returns:
        Unlearn quality, utility and the splits, as `quality.summarise`; `evaluation` beside them
        where `evaluate.measures` asks for more.
    """
    sets = eval_sets(config)
    if not sets:
        raise UserError(
            "data.evaluate: no split is named; add data.evaluate.forget.path=FILE or others"
        )
    path = model_path(config)
    places = {"after": place_of(config, path, model_digest(path), sets)}
    places |= reference_of(config, sets)
    folder = None if config.evaluate.dir is None else Path(config.evaluate.dir)
    recorder = Recorder()
    found = evaluate(
        places,
        eval_context(config, sets),
        config.evaluate.wanted,
        folder=folder,
        watch=recorder.watch,
        bars=recorder.bars,
    )
    say(tables(found))
    numbers = headline(found, "after")
    return numbers | ({"evaluation": found} if config.evaluate.wanted else {})


def run_evaluate_run(
    folder: str, overrides: Sequence[str], *, say: Callable[[str], None]
) -> dict[str, Any]:
    """`pmc evaluate OUT`: everything that is measured of a finished run, by its own settings.

    Returns:
        What it writes to `evaluation.json`.
    """
    path = Path(folder)
    config = _settings_of(path, overrides)
    with run_folder.locked(path):
        found = evaluate_finished(config, path, say=say)
        finished.close(path, purge=False, text=config.report.text)
    return found


def evaluate_finished(
    config: Config,
    folder: Path,
    *,
    known: Mapping[str, Rows] | None = None,
    recorder: Recorder | None = None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures the model of a finished run beside the one before it and the reference.

    Args:
        known: rows by model (`before`, `after`), such as the answers that the run has asked for.

    Returns:
        What it writes to `evaluation.json`.
    """
    sets, known, recorder = eval_sets(config), known or {}, recorder or Recorder()
    if not sets:
        raise UserError("data.evaluate: no split is named, nothing can be measured")
    made = multihost.broadcast_from_first((folder / run_folder.TARGET).exists) and bool(
        config.finetune.data
    )
    first = str(folder / run_folder.TARGET) if made else model_path(config)
    paths = {"before": first, "after": str(folder / run_folder.MODEL)}
    places = {
        name: place_of(config, path, model_digest(path), sets, known.get(name, {}))
        for name, path in paths.items()
    }
    found = evaluate(
        places | reference_of(config, sets),
        eval_context(config, sets),
        config.evaluate.wanted,
        folder=folder / run_folder.EVALUATION,
        watch=recorder.watch,
        bars=recorder.bars,
    )
    if multihost.is_first():
        write_json(folder / run_folder.EVALUATION_RESULTS, found)
    say(tables(found))
    return found


def eval_context(config: Config, sets: Sequence[EvalSet]) -> EvalContext:
    """What models are evaluated on by these settings."""
    retain = config.data.retain
    rows = retain_set(retain, config.data) if retain.path else None
    named = {rows.name: rows for rows in sets}
    return EvalContext(named, rows, config.evaluate, config.data, config.seed, config.log.text)


def answers_known(sets: Sequence[EvalSet], answers: Mapping[str, str], *, text: bool) -> Rows:
    """Rows of greedy answers (question -> answer) that were given already."""
    rows = {
        f"{s.name}/{id_}": answer_row(truth, answers[question], text=text)
        for s in sets
        if s.name in SPLITS
        for id_, question, truth in zip(s.ids, s.questions, s.answers, strict=True)
        if question in answers
    }
    return {"greedy": rows}


def place_of(
    config: Config, path: str, sha256: str, sets: Sequence[EvalSet], known: Rows | None = None
) -> Place:
    """A model folder of this digest, loaded when something is asked of it."""

    def opened(name: str) -> LoadedModel:
        lm = load(path, **placed(config), dtype=compute_dtype(config.model.compute_dtype).name)
        generator = TextGenerator.of(lm, config.model)
        for rows in (s for s in sets if s.name in SPLITS):  # names a question that is too long
            generator.prompts(rows.questions, config.evaluate.max_new_tokens, ids=rows.ids)
        return LoadedModel(name, generator)

    return Place(path, sha256, opened, known or {})


def reference_of(config: Config, sets: Sequence[EvalSet]) -> dict[str, Place]:
    path = config.evaluate.reference
    return {} if path is None else {"reference": place_of(config, path, model_digest(path), sets)}


def _settings_of(folder: Path, overrides: Sequence[str]) -> Config:
    """The settings of a finished run, changed by overrides of `evaluate` and the like.

    Raises:
        UserError: no finished run is there, or an override is at fault.
    """

    def read() -> dict[str, Any]:
        if not (folder / run_folder.RESULTS).is_file():
            raise UserError(f"{folder}: holds no finished run; run pmc unlearn first")
        return json.loads((folder / run_folder.RUN).read_text(encoding="utf-8"))["settings"]

    settings, faults = apply_overrides(multihost.broadcast_from_first(read), overrides)
    if faults:
        raise UserError("; ".join(faults))
    return config_from_dict(settings, where=f"{folder} with overrides")
