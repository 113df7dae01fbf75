"""Runs `pmc compare`: makes the models, executes all unfinished runs and writes the page.

Each run is executed like a run of `pmc unlearn` and has its own folder. After a run, the comparison
computes the measures with the random numbers that all runs share, and removes the weights of the
run unless `output.keep_models` is true.
"""

import dataclasses
import gc
import itertools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import manifest, run_files, run_folder
from pmc_jax.artifacts.digests import settings_digest
from pmc_jax.artifacts.files import plain, write_json
from pmc_jax.artifacts.log import read_log
from pmc_jax.commands import unlearn_job
from pmc_jax.commands.evaluate_job import eval_context, finalize, model_ref
from pmc_jax.commands.fits import check_measured
from pmc_jax.commands.inputs import RunInputs, model_digest, other_digests, read_inputs
from pmc_jax.commands.pinned_date import pin_date
from pmc_jax.commands.target import make_target
from pmc_jax.compare import collect, write
from pmc_jax.compare.runs import (
    NEVER_SAW,
    REFERENCE,
    RUNS,
    WEIGHTS,
    Run,
    folder_of,
    never_saw_of,
    reference_of,
    runs_of,
    target_of,
)
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.differences import differences
from pmc_jax.config.loader import set_dotted
from pmc_jax.config.run import Config
from pmc_jax.data.sets import finetune_rows
from pmc_jax.distributed import preemption
from pmc_jax.errors import Stopped, UserError, first_of
from pmc_jax.evaluation.context import AnswerCache, ModelRef
from pmc_jax.evaluation.harness import evaluate
from pmc_jax.evaluation.quality import FORGET_SPLITS, UTILITY_SPLITS
from pmc_jax.models.load import check_model

_OWN = (
    RUNS,
    REFERENCE,
    NEVER_SAW,
    run_files.TARGET,
    run_files.TARGET_CHECKPOINTS,
    run_files.EVALUATION,
)


def run_compare(
    compare: CompareConfig, *, overwrite: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Executes a new comparison or resumes an interrupted comparison.

    Returns:
        The contents of `compare.json`.

    Raises:
        UserError: the input is invalid, the folder holds other runs, or all runs failed.
        Stopped: the process has received a signal. If runs had begun, the page was written and
            shows the finished runs.
    """
    folder = folder_of(compare)
    if date := pin_date(compare.base(), folder).model.date:
        compare = dataclasses.replace(compare, run=set_dotted(compare.run, "model.date", date))
    runs, base, target = runs_of(compare), compare.base(), Path(target_of(compare))
    _check_folder(folder)
    _check_sets(base)
    inputs = read_inputs(base, forget_answers=base.data.forget_answers.path is not None)
    _check_models(compare, base)
    check_measured(_measured(compare, base), inputs.eval_sets)
    with run_folder.locked(folder / RUNS, make=True):
        if overwrite:
            _clear(folder)
        elif base.finetune.data and not target.exists() and any(map(_is_purged, runs)):
            raise UserError(
                f"{folder}: the target model of this comparison was removed by --purge. Pass "
                "--overwrite to repeat the comparison."
            )
        _make_models(compare, base, overwrite, say)
        digests = inputs.digests | {"model": model_digest(target_of(compare))}
        for run in runs:
            _is_finished(run, digests)  # raises an error before any run starts
        comparison = _Comparison(compare, inputs, digests["model"])
        before = AnswerCache()  # greedy answers of the target model, which all runs share
        try:
            for seed, runs_of_seed in itertools.groupby(runs, key=lambda run: run.seed):
                for run in runs_of_seed:
                    preemption.check()
                    caches = {"before": before, "after": AnswerCache()}
                    if not _is_finished(run, digests):
                        _unlearn(run, comparison.failed, caches, say)
                        _is_finished(run, digests)  # The data may have changed before the run.
                    if run.name not in comparison.failed:
                        say(f"{run.name}: {comparison.measure(run, caches['after'])}")
                if seed != runs[-1].seed:
                    comparison.write()
        except (Stopped, KeyboardInterrupt):
            with preemption.saving():
                comparison.write()
            raise
        if len(comparison.failed) == len(runs):
            raise UserError(
                f"{folder}: all runs failed. Correct the cause, then run the same "
                f"command again. The error of the last run: {comparison.failed[runs[-1].name]}"
            )
        return comparison.write(say)


def _check_folder(folder: Path) -> None:
    """Raises a `UserError` if the folder contains files that `pmc compare` did not write."""
    if not folder.is_dir():
        return
    own = {*_OWN, *write.FILES}
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    foreign = [name for name in names if name not in own]
    if foreign:
        raise UserError(
            f"output.dir: the folder {folder} contains files that pmc compare did not write "
            f"({first_of(foreign, 3)}). Set output.dir to a new or empty folder."
        )


def _check_sets(base: Config) -> None:
    lacking = [name for name in FORGET_SPLITS if name not in base.data.evaluate]
    if base.data.evaluate.keys().isdisjoint(UTILITY_SPLITS):
        lacking.append("one of " + ", ".join(UTILITY_SPLITS))
    if lacking:
        raise UserError(
            f"run.data.evaluate: a comparison needs {' and '.join(lacking)}. Set "
            "run.data.evaluate.NAME.path=FILE for each missing set."
        )


def _clear(folder: Path) -> None:
    """Removes the runs and results of an earlier comparison, but not the models that runs share."""
    for run in (folder / RUNS).iterdir():
        if (run / run_files.RUN).is_file():
            shutil.rmtree(run)
    for name in (run_files.EVALUATION, write.PLOTS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (write.JSON, write.PAGE):
        (folder / name).unlink(missing_ok=True)


def _check_models(compare: CompareConfig, base: Config) -> None:
    """Checks the rows of the reference model, and the paths of the base and reference models."""
    if compare.reference.data:
        finetune_rows(_reference_config(compare, base))
    paths = {"run.model.path": base.model.path, "reference.path": compare.reference.path}
    for name, path in paths.items():
        if path is not None:
            check_model(path, name)


def _reference_config(compare: CompareConfig, base: Config) -> Config:
    """Returns the settings for training the reference model on its rows in its own folder.

    All other settings are those of `base`.
    """
    rows = dataclasses.replace(base.finetune, data=compare.reference.data)
    return dataclasses.replace(_in(base, folder_of(compare) / REFERENCE), finetune=rows)


def _make_models(
    compare: CompareConfig, base: Config, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Trains the target model and the models that never saw the forget rows, unless they exist."""
    if base.finetune.data:
        make_target(_in(base, folder_of(compare)), overwrite=overwrite, say=say)
        gc.collect()
    if compare.reference.data:
        config = _reference_config(compare, base)
        make_target(config, overwrite=overwrite, say=say, name="reference")
        gc.collect()
        for seed, folder in never_saw_of(compare).items():
            other = dataclasses.replace(_in(config, folder), seed=seed)
            make_target(other, overwrite=overwrite, say=say, name="never-saw")
            gc.collect()


def _in(config: Config, folder: Path) -> Config:
    return dataclasses.replace(config, output=dataclasses.replace(config.output, dir=str(folder)))


def _measured(compare: CompareConfig, base: Config) -> Config:
    """Returns the settings with which the models of a comparison are measured."""
    settings = dataclasses.replace(base.evaluate, measures=compare.measures, reference=None)
    return dataclasses.replace(base, evaluate=settings)


def _is_finished(run: Run, digests: Mapping[str, str]) -> bool:
    """Returns whether a run is finished.

    Args:
        run: run with its present settings.
        digests: digests of the present data by name.

    Raises:
        UserError: the folder holds a finished run with other settings or data.
    """
    if not (run.folder / run_files.RESULTS).is_file():
        return False
    record = collect.read(run.folder / run_files.RUN)
    wanted = plain(dataclasses.asdict(run.config))
    unlike = []
    if settings_digest(record["settings"]) != settings_digest(wanted):
        unlike += differences(record["settings"], wanted)
    # Methods that do not read the true answers record no digest of them.
    old, now = record["digests"], {**digests, **other_digests(run.config, must_exist=False)}
    unlike += [f"the input {n} has changed" for n in old if now.get(n, old[n]) != old[n]]
    if unlike:
        raise UserError(
            f"{run.folder}: the folder holds a finished run with other settings or data "
            f"({'; '.join(unlike[:4])}). Set output.dir to another folder, or pass --overwrite to "
            "repeat all runs."
        )
    return True


def _unlearn(
    run: Run, failed: dict[str, str], caches: Mapping[str, AnswerCache], say: Callable[[str], None]
) -> None:
    """Executes one run, which resumes if it failed in an earlier call.

    If a `UserError` ends the run after its training has started, `failed` gets the message.
    """
    say(f"{run.name}: unlearning for at most {run.config.method.max_seconds:g} s")
    try:
        unlearn_job.run_unlearn(run.config, overwrite=False, say=lambda text: None, caches=caches)
    except UserError as error:
        if not _has_trained(run.folder):  # the input is invalid, so every run would fail
            raise
        failed[run.name] = str(error)
        say(f"{run.name}: the run failed. {error}")
    gc.collect()  # frees the model before the next load, because reference cycles still hold it


def _is_purged(run: Run) -> bool:
    return (run.folder / run_files.MANIFEST).is_file() and manifest.is_purged(run.folder)


def _has_trained(folder: Path) -> bool:
    log = folder / run_files.LOG
    return log.is_file() and any(row.get("kind") == "scalars" for row in read_log(log))


class _Comparison:
    """Comparison that measures finished runs and writes the results.

    Attributes:
        failed: error message of each failed run, by the name of the run.
    """

    def __init__(self, compare: CompareConfig, inputs: RunInputs, target_sha256: str):
        self._compare, self._runs, base = compare, runs_of(compare), compare.base()
        self.failed: dict[str, str] = {}
        made = tuple(str(path / run_files.TARGET) for path in never_saw_of(compare).values())
        settings = dataclasses.replace(
            base.evaluate,
            measures=compare.measures,
            reference=None,
            never_saw=made or base.evaluate.never_saw,
        )
        self._base = dataclasses.replace(base, evaluate=settings)
        self._sets = inputs.eval_sets
        self._context = eval_context(self._base, self._sets)
        self._models = {"before": self._model(target_of(compare), target_sha256)}
        if (path := reference_of(compare)) is not None:
            self._models["reference"] = self._model(path, model_digest(path))
        self._shared = self._evaluate({})  # evaluation of the target and reference models

    def _model(self, path: str, sha256: str, answers: AnswerCache | None = None) -> ModelRef:
        return model_ref(self._base, path, self._sets, sha256=sha256, cache=answers)

    def _evaluate(self, more: Mapping[str, ModelRef]) -> dict[str, Any]:
        folder = folder_of(self._compare) / run_files.EVALUATION
        evaluation = evaluate(self._models | more, self._context, folder=folder)
        gc.collect()
        return evaluation

    def measure(self, run: Run, answers: AnswerCache) -> str:
        """Measures a finished run once and removes the weights that are not kept.

        Args:
            answers: greedy answers that the model of the run has already generated.

        Returns:
            A line of text with the unlearn quality and the utility of the run.

        Raises:
            UserError: the run must be measured, but its folder has no model.
        """
        measured = self._is_measured(run)
        if not measured:
            path = run.folder / run_files.MODEL
            if not path.is_dir():
                raise UserError(
                    f"{run.folder}: the run has no results for the present settings and models, "
                    "and no model/ to measure. Remove this folder to repeat only this run, or pass "
                    "--overwrite to repeat all runs. Set output.keep_models=true to keep the "
                    "weights of later runs."
                )
            model = self._model(str(path), model_digest(str(path)), answers)
            evaluation = self._evaluate({run.name: model})
            for by_model in (evaluation["models"], *evaluation["measures"].values()):
                by_model["after"] = by_model.pop(run.name)
            write_json(run.folder / run_files.EVALUATION_RESULTS, evaluation)
        keep = (run_files.MODEL, run_files.ADAPTER) if self._compare.output.keep_models else ()
        drop = [n for n in WEIGHTS if n not in keep and (run.folder / n).exists()]
        if drop:
            manifest.drop(run.folder, drop)
        if drop or not measured:
            finalize(run.folder, text=self._base.report.text)
        after = collect.read(run.folder / run_files.RESULTS)["after"]
        return f"unlearn quality {after['unlearn_quality']:.1f}, utility {after['utility']:.1f}"

    def _is_measured(self, run: Run) -> bool:
        path = run.folder / run_files.EVALUATION_RESULTS
        if not path.is_file():
            return False
        earlier, names = collect.read(path), ("settings", "not_computed", "never_saw")
        same = all(earlier.get(name) == plain(self._shared[name]) for name in names)
        models = {n: m["sha256"] for n, m in earlier["models"].items() if n != "after"}
        return same and models == {n: model.sha256 for n, model in self._models.items()}

    def write(self, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
        """Writes the page and `compare.json` for the finished runs.

        Returns:
            The contents of `compare.json`.
        """
        files = (run_files.RESULTS, run_files.EVALUATION_RESULTS)
        done = [
            run
            for run in self._runs
            if run.name not in self.failed and all((run.folder / file).is_file() for file in files)
        ]
        comparison = collect.collect(self._compare, self._runs, done, self.failed, self._shared)
        write.write(folder_of(self._compare), comparison, say=say)
        return comparison
