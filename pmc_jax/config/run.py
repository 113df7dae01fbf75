"""Settings of a run, as frozen dataclasses, and functions that build them from YAML.

The defaults differ from the published settings (arXiv 2507.04219), which are in
`configs/tofu_phi15.yaml` and `configs/tofu_llama32_3b.yaml`. The settings classes check their
values; `pmc_jax.config.schema` contains the checks and their messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema, shipped
from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.loader import apply_overrides, read_settings
from pmc_jax.config.mesh import MeshConfig
from pmc_jax.config.method import MethodConfig
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.paths import output_setting
from pmc_jax.config.plan import PlanConfig
from pmc_jax.config.pmc import PMCConfig
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.schema import (
    SEED,
    Section,
    at_least,
    between,
    one_of,
    setting,
)
from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Fine-tuning of `model.path`, which makes the target model.

    This section also has the settings of the section `train`.

    Fields:
        batch_size: number of rows in a micro-batch.
        data: sources of question-answer pairs; an empty list disables fine-tuning.
        epochs: number of passes over the data.

    Example:
        >>> pmc.FinetuneConfig(epochs=8, learning_rate=2e-4)
        FinetuneConfig(learning_rate=0.0002, epochs=8)
    """

    data: tuple[SourceConfig, ...] = ()
    epochs: int = setting(5, between(0, 10_000))


@dataclass(frozen=True)
class OutputConfig(Section):
    """The folder of a run and its checkpoints.

    Fields:
        dir: folder of the run on this machine, which finetune, unlearn and export need; evaluate,
            sample and chat read only the date of this run (see `model.date`).
        checkpoint_every: number of steps between checkpoints; 0 selects an interval of ten minutes.
        checkpoint_end: whether to also write a checkpoint after the last step.
        keep: number of newest checkpoints to keep; the checkpoint of the best step is also kept
            (see `evaluate.keep_best`).

    Example:
        >>> pmc.OutputConfig(checkpoint_every=100, keep=3)
        OutputConfig(checkpoint_every=100, keep=3)
    """

    dir: str | None = output_setting(None)
    checkpoint_every: int = setting(0, at_least(0))
    checkpoint_end: bool = True
    keep: int = setting(2, at_least(1))


@dataclass(frozen=True)
class LogConfig(Section):
    """The log of a run.

    Fields:
        text: whether to write questions and answers, which may be personal data, to the log.
        trackers: programs that receive the scalars of the run (tensorboard | wandb), but no text;
            an empty list selects none. wandb needs the package wandb and sends the scalars to its
            server, unless the environment has WANDB_MODE=offline.

    Example:
        >>> pmc.LogConfig(text=True)
        LogConfig(text=true)
    """

    text: bool = False
    trackers: tuple[str, ...] = setting(("tensorboard",), one_of("tensorboard", "wandb"))


@dataclass(frozen=True)
class Config(Section):
    """All settings of a run.

    Fields:
        model, data, pmc, method, train, finetune, evaluate, mesh, plan, output, log, report: the
            sections of the settings.
        seed: seed of all random choices, such as sampling and the choice and order of rows.
        profile: whether to write an XProf trace of the second (or only) round to
            `output.dir`/profile.

    Example:
        >>> pmc.Config(train=pmc.TrainConfig(learning_rate=2e-5), seed=1)
        Config(train=TrainConfig(learning_rate=2e-05), seed=1)
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pmc: PMCConfig = field(default_factory=PMCConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    log: LogConfig = field(default_factory=LogConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    seed: int = setting(0, SEED)
    profile: bool = False

    def cross_faults(self) -> list[str]:
        return [
            *self._faults_of_alignment(),
            *self._faults_of_retain_loss(),
            *self._faults_of_reference(),
            *self.evaluate.faults_of_sets(self.data.evaluate),
        ]

    def _faults_of_alignment(self) -> list[str]:
        if self.method.name != "pmc_alignment" or self.pmc.selection.max_train_score != 0:
            return []
        return [
            "pmc.selection.max_train_score: the value is 0, but method.name=pmc_alignment weights "
            "its refusals by the mean score of the replacement answers. Set the value to null or "
            "to a number above 0."
        ]

    def _faults_of_retain_loss(self) -> list[str]:
        why = {"gradient_ascent": "has no retain rows", "rmu": "computes no cross-entropy"}
        name = self.method.name
        if self.pmc.schedule.max_retain_loss is None or name not in why:
            return []
        return [
            f"pmc.schedule.max_retain_loss: method.name={name} {why[name]}, so a run has no retain "
            "loss to compare. Set the value to null."
        ]

    def _faults_of_reference(self) -> list[str]:
        if not self.evaluate.makes_reference or self.finetune.data:
            return []
        return [
            "evaluate.make_reference: without finetune.data, pmc does not know the model from "
            "which the target model was made. Set evaluate.reference to a model that never saw "
            "the forget rows, or evaluate.make_reference=false."
        ]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the settings of a run from a YAML file and applies `section.key=value` overrides.

    Args:
        path: YAML file, or the name of a shipped file such as `quickstart`; settings that the file
            does not give keep their defaults.
        overrides: texts that are applied in this order, such as `pmc.schedule.epochs=20`,
            `data.evaluate.forget.path=forget.jsonl`, `finetune.data=full.jsonl` or
            `finetune.data=[a.jsonl, b.jsonl]`.

    Raises:
        UserError: the file cannot be read, its YAML is invalid (the message names the line), or
            settings or overrides are invalid (the message lists all faults).

    Example:
        >>> config = pmc.load_config("quickstart", ["pmc.schedule.epochs=2"])
        >>> config.pmc.schedule.epochs
        2
    """
    path = shipped.find(path)
    raw, faults = apply_overrides(read_settings(path), overrides)
    where = f"{path} with overrides" if overrides else str(path)
    return schema.build(Config, raw, where=where, faults=faults)


def config_from_overrides(overrides: Sequence[str]) -> Config:
    """Returns the default settings with `section.key=value` overrides.

    Raises:
        UserError: overrides are invalid; the message lists all faults.
    """
    raw, faults = apply_overrides({}, overrides)
    return schema.build(Config, raw, where="overrides", faults=faults)


def config_from_dict(settings: dict[str, Any], where: str = "settings") -> Config:
    """Builds the settings of a run from nested dicts, as `dataclasses.asdict` returns them.

    Args:
        settings: nested dicts; absent settings keep their defaults.
        where: origin of the settings, which error messages name.

    Raises:
        UserError: settings are invalid; the message lists all faults.
    """
    return schema.build(Config, settings, where=where)


def model_path(config: Config) -> str:
    """Returns the setting `model.path`.

    Raises:
        UserError: the setting is not given.
    """
    if not config.model.path:
        raise UserError(
            "model.path: no model is given. Set model.path to a model folder, a *.gguf file or a "
            "name on the Hugging Face Hub."
        )
    return config.model.path


def output_dir(config: Config) -> str:
    """Returns the setting `output.dir`.

    Raises:
        UserError: the setting is not given.
    """
    if not config.output.dir:
        raise UserError("output.dir: no folder is given. Set output.dir to a folder for results.")
    return config.output.dir
