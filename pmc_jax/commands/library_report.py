"""Writes the report of a run of the library, which has no folder of files as `pmc unlearn` has."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.log import RunLog
from pmc_jax.artifacts.manifest import present_inputs
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.artifacts.run_folder import versions
from pmc_jax.commands.answer_log import log_questions, words_of
from pmc_jax.commands.inputs import RunInputs
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.report import RequestConfig
from pmc_jax.config.run import Config
from pmc_jax.evaluation.context import LoadedModel
from pmc_jax.evaluation.forgotten import summary
from pmc_jax.evaluation.levels import measure_levels, paraphrases_of, secrets_of
from pmc_jax.evaluation.quality import of_recalls
from pmc_jax.evaluation.tables import headline
from pmc_jax.models.load import LanguageModel
from pmc_jax.report.collect import collect
from pmc_jax.report.remains import to_delete
from pmc_jax.report.write import save
from pmc_jax.sampling.generator import TextGenerator


@dataclasses.dataclass(frozen=True, repr=False)
class LibraryRun:
    """What a report needs of a run of the library.

    Attributes:
        config: settings of the run.
        inputs: rows of the run.
        originals: original answer by the id of the question, or "" if the model was not asked.
        replacements: replacement answer, or None, and its score by the id of the question.
        numbers: fields of results.json that the run itself knows, such as `rounds` and `seconds`.
    """

    config: Config
    inputs: RunInputs
    originals: Mapping[str, str]
    replacements: Mapping[str, tuple[str | None, float]]
    numbers: Mapping[str, Any]


def write_library_report(
    run: LibraryRun,
    lm: LanguageModel,
    page: Path,
    *,
    settings: EvaluateConfig,
    evaluation: Mapping[str, Any] | None,
    request: RequestConfig,
    text: bool,
    recorder: Recorder,
) -> None:
    """Measures the levels at which the model tells secrets, and writes the page and its JSON.

    Args:
        run: run of which the report is written.
        lm: unlearned model.
        page: HTML file to write. The JSON file is next to it.
        settings: settings of the levels.
        evaluation: contents of `evaluation.json`, or None.
        request: removal request that the report names; for a setting that is None, that of the run.
        text: whether both files contain questions and answers.
        recorder: stopwatch and progress bars.

    Raises:
        UserError: an existing file is not a report, or a file cannot be written.
    """
    # The report shows settings, and no rows of a run are chosen by `keep_best` here.
    settings = dataclasses.replace(settings, keep_best=None)
    config = dataclasses.replace(run.config, evaluate=settings)
    forget, sets = run.inputs.forget, run.inputs.eval_sets
    model = LoadedModel("report", TextGenerator.of(lm, config.model))
    answers = model.greedy(forget.questions, settings, recorder)
    originals = [run.originals[id_] for id_ in forget.ids]
    secrets = secrets_of(forget, originals, sets, run.inputs.retain, settings)
    paraphrases, why_not = paraphrases_of(forget, sets)
    how = dict(seed=config.seed, recorder=recorder)
    levels = measure_levels(model, forget, secrets, paraphrases, settings, **how)
    measured = evaluation["models"] if evaluation else ()
    results = dict(run.numbers) | {
        moment: headline(evaluation, moment) if moment in measured else of_recalls({})
        for moment in ("before", "after")
    }
    results |= {
        "forgotten": summary(levels, settings.levels, why_not),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
        "config": dataclasses.asdict(config),
    }
    with tempfile.TemporaryDirectory() as parent:  # which only its owner can read
        folder = Path(parent) / page.stem
        with RunLog(folder, text, names=()) as log:
            for metrics in run.numbers["rounds"]:
                numbers = {name: value for name, value in metrics.items() if name != "step"}
                log.scalars(metrics["step"], **numbers)
            log_questions(log, run.inputs, run, answers, levels, words_of(config, sets, run))
        write_json(folder / run_files.MANIFEST, {"inputs": {}, "outputs": {}})
        write_json(folder / run_files.RUN, {"digests": run.inputs.digests})
        if evaluation is not None:
            write_json(folder / run_files.EVALUATION_RESULTS, dict(evaluation))
        named = dataclasses.asdict(request)
        report = collect([folder], text=text, results=results, request=named)
        # The folder does not stay, so the manifest does not name the source model.
        source = present_inputs({"model": {"path": lm.source}})
        report["runs"][0]["to_delete"] = to_delete("", [], source, None)
        save(report, page, [folder])
