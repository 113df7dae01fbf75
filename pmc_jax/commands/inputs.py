"""What the commands need of the settings; a missing one is named with the way to give it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from pmc_jax.artifacts.run_folder import file_digest
from pmc_jax.config.run import Config, model_path
from pmc_jax.config.train import TrainConfig
from pmc_jax.data import sources
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetSet, RetainSet
from pmc_jax.distributed import multihost
from pmc_jax.distributed.mesh import make_mesh
from pmc_jax.errors import UserError, first_of
from pmc_jax.models.attention import check_kernel
from pmc_jax.models.load import LanguageModel, find, load
from pmc_jax.models.remote import is_address
from pmc_jax.sampling.generator import TextGenerator, compute_dtype
from pmc_jax.scoring import base_score
from pmc_jax.training.losses import METHODS

_log = logging.getLogger(__name__)


def model_digest(path: str) -> str:
    """SHA-256 of a model's files, which the first process reads."""
    return multihost.broadcast_from_first(lambda: file_digest(find(path)))


def placed(config: Config) -> dict[str, Any]:
    """What `load` is told of the mesh, and of the tables from logical axes to it."""
    c = config.mesh
    mesh = make_mesh(c.data, c.fsdp, c.tensor, slices=c.slices)
    return dict(mesh=mesh, train_rules=c.train_rules, sample_rules=c.sample_rules)


def check_fits(
    config: Config,
    generator: TextGenerator,
    forget: ForgetSet,
    pairs: Sequence[RetainSet | FinetuneSet],
    sets: Sequence[EvalSet],
) -> None:
    """Checks what can only be checked with the model at hand, before anything is written.

    Raises:
        UserError: no such score, questions in both sets under `data.on_overlap: error`, attention
            that cannot run here, a layer that the model lacks, or a question or a row that is too
            long.
    """
    base_score(config.pmc, encode=generator.encoder.plain)
    _check_retained(config.data.on_overlap, forget, pairs[0])
    for settings in (config.train, *([config.finetune] if config.finetune.data else [])):
        check_kernel(
            settings.attention, generator.lm.config, generator.dtype, generator.layout.platform
        )
    generator.prompts(forget.questions, config.pmc.sampling.max_new_tokens, ids=forget.ids)
    layer, layers = config.method.layer, generator.lm.config.num_layers
    if layer is not None and layer > layers:
        raise UserError(f"method.layer: {layer}, but the model has {layers} layers")
    for split in sets:
        generator.prompts(split.questions, config.evaluate.max_new_tokens, ids=split.ids)
    for rows in pairs if config.data.long_rows == "error" else ():
        generator.sequences(rows.questions, rows.answers, config.data, ids=rows.ids)


def _check_retained(rule: str, forget: ForgetSet, retain: RetainSet) -> None:
    """What is trained to be kept is not forgotten: the same question in both sets."""
    kept = {" ".join(question.split()).casefold() for question in retain.questions}
    asked = zip(forget.ids, forget.questions, strict=True)
    both = [id_ for id_, text in asked if " ".join(text.split()).casefold() in kept]
    if not both:
        return
    named = first_of(both, 5)
    message = f"{len(both)} of {len(forget)} forget questions are retain questions too ({named})"
    if rule == "error":
        raise UserError(f"{message}; take them out of one, or set data.on_overlap=warn")
    _log.warning("%s: these pull both ways", message)


def input_files(config: Config, model: str) -> dict[str, dict[str, str]]:
    """Name -> `path` and `sha256` of everything that a run reads from a file.

    Args:
        model: digest of the model, known already.
    """
    name = model_path(config)
    path = name if is_address(name) else str(find(name).absolute())
    files = {"model": {"path": path, "sha256": model}}
    data = config.data
    named = {"data.forget": data.forget, "data.retain": data.retain}
    if config.data.forget_answers.path and METHODS[config.method.name].reads_true_answers:
        named["data.forget_answers"] = config.data.forget_answers
    named |= {f"data.evaluate.{name}": source for name, source in data.evaluate.items()}
    named |= {f"finetune.data.{i}": source for i, source in enumerate(config.finetune.data)}
    settings = {"pmc.score.forbidden_file": config.pmc.score.forbidden_file}
    settings["method.refusals"] = config.method.refusals
    for where, name in settings.items():
        if name is not None:
            path = Path(name).expanduser()
            files[where] = {"path": str(path.absolute()), "sha256": file_digest(path)}
    for where, source in named.items():
        if (file := sources.file_of(source, data, where)) is not None:
            files[where] = {"path": str(file.absolute()), "sha256": file_digest(file)}
    return files


def _loaded(config: Config, path: str | Path, trained: TrainConfig | None = None) -> LanguageModel:
    """The model; in float32 only where all its weights are trained."""
    whole = trained is not None and not trained.lora.rank
    dtype = jnp.dtype("float32") if whole else compute_dtype(config.model.compute_dtype)
    return load(path, **placed(config), dtype=dtype.name)
