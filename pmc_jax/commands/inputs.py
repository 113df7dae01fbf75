"""Reads the rows, models and files that the commands need."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from pmc_jax.artifacts.digests import data_digest, file_digest
from pmc_jax.artifacts.log import progress
from pmc_jax.config.run import Config, model_path
from pmc_jax.config.train import TrainConfig
from pmc_jax.data import sources
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetAnswerSet, ForgetSet, RetainSet
from pmc_jax.data.sets import eval_sets, finetune_rows, forget_answer_set, forget_set, retain_set
from pmc_jax.data.twins import check_twins
from pmc_jax.distributed import multihost
from pmc_jax.distributed.mesh import make_mesh
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.models.attention import check_kernel
from pmc_jax.models.load import LanguageModel, find, load
from pmc_jax.models.remote import is_address
from pmc_jax.sampling.generator import TextGenerator, compute_dtype
from pmc_jax.scoring.registry import base_score
from pmc_jax.scoring.secret_vocabulary import vocabulary
from pmc_jax.training.losses import METHODS
from pmc_jax.unlearning.refusals import refusals_for

_CHECKED_ROWS = 1000  # The progress bar moves after this number of questions.


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """Rows that a run trains on or is evaluated on.

    Attributes:
        forget: forget questions.
        retain: retain pairs.
        forget_answers: forget questions with true answers; None unless the method trains on them.
        refusals: answers for methods that train on refusals; empty for other methods.
        eval_sets: question-answer pairs for evaluation.
        target_rows: question-answer pairs on which the target model is fine-tuned; None if no
            target model is made.
    """

    forget: ForgetSet
    retain: RetainSet
    forget_answers: ForgetAnswerSet | None
    refusals: Sequence[str] = dataclasses.field(repr=False)
    eval_sets: Sequence[EvalSet] = ()
    target_rows: FinetuneSet | None = None

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 digest of the rows of each set, by the name of the set."""
        named = {"forget": self.forget, "retain": self.retain}
        named |= {"forget_answers": self.forget_answers, "finetune": self.target_rows}
        named |= {f"evaluate.{rows.name}": rows for rows in self.eval_sets}
        return {name: data_digest(rows) for name, rows in named.items() if rows is not None}


def read_inputs(config: Config, *, forget_answers: bool | None = None) -> RunInputs:
    """Reads all rows of a run.

    Args:
        forget_answers: whether to read the true answers; None reads them only if the method trains
            on true answers.

    Raises:
        UserError: a source is not given, cannot be read or has invalid rows.
    """
    data = config.data
    if forget_answers is None:
        forget_answers = METHODS[config.method.name].reads_true_answers
    forget, retain = forget_set(data.forget, data), retain_set(data.retain, data)
    answers = forget_answer_set(data.forget_answers, data, forget) if forget_answers else None
    return RunInputs(
        forget,
        retain,
        answers,
        refusals=refusals_for(config.method),
        eval_sets=eval_sets(config),
        target_rows=finetune_rows(config) if config.finetune.data else None,
    )


def model_digest(path: str) -> str:
    """Returns the SHA-256 digest of the model files. Only the first process reads the files."""
    return multihost.broadcast(lambda: file_digest(find(path)))


def placed(config: Config) -> dict[str, Any]:
    """Returns the mesh and the sharding tables as keyword arguments for `load`."""
    c = config.mesh
    mesh = make_mesh(c.data, c.fsdp, c.tensor, slices=c.slices)
    return dict(mesh=mesh, train_rules=c.train_rules, sample_rules=c.sample_rules)


def check_fits(config: Config, generator: TextGenerator, inputs: RunInputs) -> None:
    """Checks whether the settings and rows fit the model, before any file is written.

    Raises:
        UserError: the score is unknown, a forget question is also a retain question although
            `data.on_overlap` is `error`, the devices do not support the attention kernel, the model
            does not have the layer `method.layer`, or a question or a row is too long.
    """
    forget = inputs.forget
    vocabulary(config.evaluate.levels.words)
    base_score(config.pmc, encode=generator.encoder.plain)
    check_twins(config.data.on_overlap, forget, inputs.retain)
    for settings in (config.train, *([config.finetune] if config.finetune.data else [])):
        check_kernel(
            settings.attention, generator.lm.config, generator.dtype, generator.layout.platform
        )
    prompts = [(forget, config.pmc.sampling.max_new_tokens)]
    prompts += [(rows, config.evaluate.max_new_tokens) for rows in inputs.eval_sets]
    layer, layers = config.method.layer, generator.lm.config.num_layers
    if layer is not None and layer > layers:
        raise UserError(
            f"method.layer must be a layer of the model, from 1 to {layers}, but it is {layer}. "
            "Set method.layer to a number in this range."
        )
    # This call raises an error with the ids of true answers without words, which ROUGE cannot
    # score.
    EvalContext({rows.name: rows for rows in inputs.eval_sets}, None, config.evaluate, config.data)
    check_prompts(generator, prompts)
    if config.data.long_rows == "error":
        for pairs in (inputs.retain, inputs.target_rows, inputs.forget_answers):
            if pairs is not None:
                generator.sequences(pairs.questions, pairs.answers, config.data, ids=pairs.ids)


def check_prompts(
    generator: TextGenerator, sets: Sequence[tuple[ForgetSet | EvalSet, int]]
) -> None:
    """Checks that each question and its answer fit into the model's context window.

    A progress bar appears after two seconds.

    Args:
        sets: pairs of a data set and the maximum number of tokens in an answer to its questions.

    Raises:
        UserError: a question is too long, or cannot be encoded.
    """
    count = sum(len(rows) for rows, _ in sets)
    with progress(count, "check the questions", "question", delay=2.0) as bar:
        for rows, max_new_tokens in sets:
            for start in range(0, len(rows), _CHECKED_ROWS):
                part = slice(start, start + _CHECKED_ROWS)
                ids = rows.ids[part]
                generator.prompts(rows.questions[part], max_new_tokens, ids=ids)
                bar.update(len(ids))


def input_files(config: Config, model: str) -> dict[str, dict[str, str]]:
    """Returns the path and the SHA-256 digest of each file that a run reads.

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
    for where, file in data_files(config, forget_answers=reads_answers).items():
        files[where] = {"path": str(file), "sha256": file_digest(file)}
    return files


def data_files(config: Config, *, forget_answers: bool) -> dict[str, Path]:
    """Returns the absolute path of each data file of a run by the name of the setting.

    Data files hold rows, forbidden strings, refusals or tables of words.

    Args:
        forget_answers: whether the run reads `data.forget_answers`.
    """
    data = config.data
    rows = {"data.forget": data.forget, "data.retain": data.retain}
    if forget_answers:
        rows["data.forget_answers"] = data.forget_answers
    rows |= {f"data.evaluate.{name}": source for name, source in data.evaluate.items()}
    rows |= {f"finetune.data.{i}": source for i, source in enumerate(config.finetune.data)}
    others = {"pmc.score.forbidden_file": config.pmc.score.forbidden_file}
    others["method.refusals"] = config.method.refusals
    others["evaluate.levels.words"] = config.evaluate.levels.words
    texts = {where: text for where, text in others.items() if text is not None}
    paths = {where: Path(os.path.expanduser(text)) for where, text in texts.items()}
    paths |= {where: sources.file_of(source, data, where) for where, source in rows.items()}
    return {where: file.absolute() for where, file in paths.items() if file is not None}


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
    return load(path, **placed(config), dtype=dtype.name)
