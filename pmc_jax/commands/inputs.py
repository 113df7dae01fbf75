"""Reads the rows, models and files that the commands need."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from pmc_jax.artifacts.digests import data_digest, file_digest
from pmc_jax.config.run import Config, model_path
from pmc_jax.config.train import TrainConfig
from pmc_jax.data import sources
from pmc_jax.data.lines import read_lines, read_text
from pmc_jax.data.records import (
    EvalSet,
    FinetuneSet,
    ForgetAnswerSet,
    ForgetSet,
    OwnQuestions,
    RetainSet,
)
from pmc_jax.data.sets import (
    counted_retain_set,
    eval_set,
    finetune_rows,
    forget_answer_set,
    forget_set,
    general_set,
    reference_rows,
)
from pmc_jax.distributed import multihost
from pmc_jax.distributed.busy import busy
from pmc_jax.errors import UserError, about, at_once
from pmc_jax.evaluation.heldout import hold_out
from pmc_jax.models.load import LanguageModel, find, load
from pmc_jax.models.remote import is_address
from pmc_jax.sampling.generator import compute_dtype
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.own_questions import own_questions
from pmc_jax.unlearning.refusals import refusals_for


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """Rows that a run trains on or is evaluated on.

    Attributes:
        forget: forget questions.
        retain: given retain pairs.
        heldout: indices of the retain pairs on which the run does not train.
        not_heldout: reason why there are none, or "".
        forget_answers: forget questions with true answers; None if these were not read.
        refusals: answers for methods that train on refusals; empty for other methods.
        eval_sets: question-answer pairs for evaluation.
        target_rows: question-answer pairs on which the target model is fine-tuned; None if no
            target model is made.
        reference_rows: the same for the reference model.
        own: further retain questions, which the target model answers itself before the first step
            (see `unlearning.own_retain`); None without the source `own`.
    """

    forget: ForgetSet
    retain: RetainSet
    forget_answers: ForgetAnswerSet | None
    refusals: Sequence[str] = dataclasses.field(repr=False)
    eval_sets: Sequence[EvalSet] = ()
    target_rows: FinetuneSet | None = None
    reference_rows: FinetuneSet | None = None
    own: OwnQuestions | None = None
    heldout: tuple[int, ...] = ()
    not_heldout: str = ""

    @functools.cached_property
    def trained_retain(self) -> RetainSet:
        """Retain pairs on which the run trains."""
        if not self.heldout:
            return self.retain
        return self.retain.select(sorted({*range(len(self.retain))} - {*self.heldout}))

    @functools.cached_property
    def heldout_retain(self) -> RetainSet:
        return self.retain.select(self.heldout)

    def with_heldout(self, config: Config, num_given: int) -> "RunInputs":
        """Returns the inputs of a run that does not train on `data.retain_test_size` of its rows.

        Args:
            num_given: number of rows of `data.retain`, which come first in `retain`.
        """
        if self.own is not None and not num_given:
            why = "data.retain is own, so the answers to keep are the model's own"
            return dataclasses.replace(self, not_heldout=why)
        share = config.data.retain_test_size
        rows, why = hold_out(self.retain, num_given, self.forget, share, config.seed)
        return dataclasses.replace(self, heldout=rows, not_heldout=why)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 digest of the rows of each set, by the name of the set."""
        named = {"forget": self.forget, "retain": self.retain, "own": self.own}
        named |= {"forget_answers": self.forget_answers, "finetune": self.target_rows}
        named |= {f"evaluate.{rows.name}": rows for rows in self.eval_sets}
        return {name: data_digest(rows) for name, rows in named.items() if rows is not None}

    @property
    def retained_texts(self) -> list[str]:
        """Texts of the retain data before the target model has answered its own questions."""
        own = self.own.questions if self.own else ()
        given = self.trained_retain
        return [*given.questions, *given.answers, *own]


def read_inputs(
    config: Config,
    *,
    forget_answers: bool | None = None,
    attempt: Callable[..., Any] = at_once,
) -> RunInputs:
    """Reads all rows of a run.

    Args:
        forget_answers: whether to read the true answers; None reads them only if the method trains
            on true answers.
        attempt: function that calls each reader. `Faults.attempt` goes on after an error, and the
            field of the result is then None.

    Raises:
        UserError: a source is not given, cannot be read or has invalid rows.
    """
    data = config.data
    if forget_answers is None:
        forget_answers = METHODS[config.method.name].reads_true_answers
    with busy("read the data"):
        forget = attempt(forget_set, data.forget, data)
        retain, num_given = attempt(counted_retain_set, data.retain, data) or (None, 0)
        answers, reference = None, None
        if forget_answers and forget is not None:
            answers = attempt(forget_answer_set, data.forget_answers, data, forget)
        if config.evaluate.makes_reference and forget is not None:
            reference = attempt(reference_rows, config, forget)
        own = None
        asks_own = data.retain.is_own or data.adds_own_answers
        if asks_own and forget is not None and retain is not None:
            own = attempt(own_questions, forget, retain, general_set(), config)
        inputs = RunInputs(
            forget,
            retain,
            answers,
            refusals=attempt(refusals_for, config.method),
            eval_sets=[attempt(eval_set, n, source, data) for n, source in data.evaluate.items()],
            target_rows=attempt(finetune_rows, config) if config.finetune.data else None,
            reference_rows=reference,
            own=own,
        )
        if forget is None or retain is None:
            return inputs
        return inputs.with_heldout(config, num_given)


def model_digest(path: str) -> str:
    """Returns the SHA-256 digest of the model files. Only the first process reads the files."""
    with busy("read the model"):
        return multihost.broadcast(lambda: file_digest(find(path)))


def input_files(config: Config, model: str) -> dict[str, dict[str, str]]:
    """Returns the path and the SHA-256 digest of the model and of each data file of a run.

    A file that does not exist is left out; its reader reports it.

    Args:
        model: SHA-256 digest of the model files.

    Returns:
        A dictionary with `path` and `sha256` for each file. The key is "model" or the setting that
        names the file.
    """
    name = model_path(config)
    path = name if is_address(name) else str(find(name).absolute())
    files = {"model": {"path": path, "sha256": model}}
    reads_answers = METHODS[config.method.name].reads_true_answers
    paths = data_files(config, forget_answers=reads_answers)
    for where, digest in _digests(paths).items():
        files[where] = {"path": str(paths[where]), "sha256": digest}
    return files


def changed_files(files: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns the paths of the data files that have changed since `input_files` has returned them.

    The model is not compared, because hashing the weights takes long.
    """

    def is_changed(file: Mapping[str, str]) -> bool:
        try:
            return file_digest(file["path"]) != file["sha256"]
        except UserError:
            return True

    changed = {f["path"] for name, f in files.items() if name != "model" and is_changed(f)}
    return sorted(changed)


def other_digests(config: Config, *, must_exist: bool) -> dict[str, str]:
    """Returns the SHA-256 digest of each data file that holds no rows, by its setting.

    All processes of a job must call this function. Only the first process reads the files.

    Raises:
        UserError: `must_exist` is true, and a file cannot be read, is not UTF-8 or has no entries.
    """

    def digests() -> dict[str, str]:
        files = _other_files(config)
        if must_exist:
            for where, file in files.items():
                # All other files have an entry in each line.
                (read_text if where == "evaluate.levels.words" else read_lines)(file, where)
        return _digests(files)

    return multihost.broadcast(digests)


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Returns the SHA-256 digest of each existing file."""
    found = {}
    for where, file in files.items():
        if file.is_file():
            with about(where):
                found[where] = file_digest(file)
    return found


def data_files(config: Config, *, forget_answers: bool) -> dict[str, Path]:
    """Returns the absolute path of each data file of a run by the name of the setting.

    Data files hold rows, forbidden strings, refusals, names, openings or tables of words.

    Args:
        forget_answers: whether the run reads `data.forget_answers`.
    """
    data = config.data
    rows = {"data.forget": data.forget} | data.retain_sources
    if forget_answers:
        rows["data.forget_answers"] = data.forget_answers
    rows |= {f"data.evaluate.{name}": source for name, source in data.evaluate.items()}
    rows |= {f"finetune.data.{i}": source for i, source in enumerate(config.finetune.data)}
    paths = {where: sources.file_of(source, data, where) for where, source in rows.items()}
    files = {where: file.absolute() for where, file in paths.items() if file is not None}
    return _other_files(config) | files


def _other_files(config: Config) -> dict[str, Path]:
    """Returns the absolute path of each data file that holds no rows by the name of the setting."""
    texts = {
        "pmc.score.forbidden_file": config.pmc.score.forbidden_file,
        "method.refusals": config.method.refusals,
        "pmc.subject.names_file": config.pmc.subject.names_file,
        "pmc.abstention.openings_file": config.pmc.abstention.openings_file,
        "evaluate.levels.words": config.evaluate.levels.words,
    }
    return {
        where: Path(os.path.expanduser(text)).absolute()
        for where, text in texts.items()
        if text is not None
    }


def load_model(
    config: Config, path: str | Path, trained: TrainConfig | None = None
) -> LanguageModel:
    """Loads a model in float32 if training changes all weights, else in the compute dtype.

    Args:
        config: settings of the mesh and of the dtypes.
        path: path or name of the model, as for `pmc_jax.load`.
        trained: settings of the training that follows, or None if no training follows.

    Raises:
        UserError: the model cannot be loaded (see `pmc_jax.load`).
    """
    whole = trained is not None and not trained.lora.rank
    dtype = jnp.dtype("float32") if whole else compute_dtype(config.model.compute_dtype)
    with busy("load the model"):
        return load(path, mesh=config, dtype=dtype.name)
