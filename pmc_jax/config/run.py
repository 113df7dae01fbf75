"""Settings of a run, as frozen dataclasses, and functions that build them from YAML.

Defaults are the project's own. The published settings (arXiv 2507.04219) are in
`configs/tofu_phi15.yaml` and `configs/tofu_llama32_3b.yaml`. The settings classes check their
values; `pmc_jax.config.schema` contains the checks and their messages.
"""

from __future__ import annotations

import datetime
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema
from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.loader import apply_overrides, read_settings
from pmc_jax.config.mesh import MeshConfig
from pmc_jax.config.method import MethodConfig
from pmc_jax.config.paths import output_setting
from pmc_jax.config.plan import PlanConfig
from pmc_jax.config.pmc import PMCConfig
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.schema import (
    SEED,
    Check,
    Section,
    at_least,
    between,
    one_of,
    setting,
)
from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError


def _is_question_tag(text: str) -> bool:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:  # The text has an unpaired brace.
        return False
    return fields == ["question"]


_QUESTION_TAG = Check("text that contains {question} once and no other braces", _is_question_tag)


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


_DATE = Check("a date such as '2026-11-30'", _is_date)


@dataclass(frozen=True)
class ModelConfig(Section):
    """The model, its dtypes and the format of its prompts.

    Fields:
        path: folder or Hub name of a Hugging Face model, or a GGUF file.
        config: file config.json, or its folder, from which `pmc plan` reads the shape of the model;
            None selects the file in `path`.
        compute_dtype: dtype of computation (auto | float32 | bfloat16); auto selects bfloat16 on
            TPU and GPU and float32 on CPU.
        cache_dtype: dtype of the key-value cache during sampling (auto | float32 | bfloat16); auto
            selects `compute_dtype`.
        format: format of prompts (auto | chat | tags); auto selects chat if the tokenizer has a
            chat template and tags otherwise.
        system_prompt: system message of the chat format; None omits the system message.
        date_string: date that the chat template inserts; None selects the default of the template.
        date: date that a chat template with `strftime_now` prints as today's; None selects the date
            of the first run in the output folder, which the run records.
        question_tag: prompt of the tags format, in which `{question}` stands for the question.
        answer_tag: text before the answer in the tags format, which the model learns to write.
    """

    path: str | None = None
    config: str | None = None
    compute_dtype: str = setting("auto", one_of("auto", "float32", "bfloat16"))
    cache_dtype: str = setting("auto", one_of("auto", "float32", "bfloat16"))
    format: str = setting("auto", one_of("auto", "chat", "tags"))
    system_prompt: str | None = None
    date_string: str | None = None
    date: str | None = setting(None, _DATE)
    question_tag: str = setting("Question: {question}\n", _QUESTION_TAG)
    answer_tag: str = "Answer: "


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Fine-tuning of the target model before unlearning.

    This section also has the settings of the section `train`.

    Fields:
        batch_size: number of rows in a micro-batch.
        data: sources of question-answer pairs; an empty list disables fine-tuning.
        epochs: number of passes over the data.
    """

    data: tuple[SourceConfig, ...] = ()
    epochs: int = setting(5, between(0, 10_000))


@dataclass(frozen=True)
class OutputConfig(Section):
    """The folder of a run and its checkpoints.

    Fields:
        dir: folder of the run on this machine, which the file or the command line must name.
        checkpoint_every: number of steps between checkpoints; 0 selects an interval of ten minutes.
        checkpoint_end: whether to also write a checkpoint after the last step.
        keep: number of checkpoints to keep, of which the oldest is removed first.
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
    """

    text: bool = False


@dataclass(frozen=True)
class Config(Section):
    """All settings of a run.

    Fields:
        model, data, pmc, method, train, finetune, evaluate, mesh, plan, output, log, report: the
            sections of the settings.
        seed: seed of all random choices, which are sampling, pairing and the order of rows.
        profile: whether to write an XProf trace of the second round to `output.dir`/profile.
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
        return self._faults_of_alignment() + self.evaluate.faults_of_sets(self.data.evaluate)

    def _faults_of_alignment(self) -> list[str]:
        if self.method.name != "pmc_alignment" or self.pmc.selection.max_train_score != 0:
            return []
        return [
            "pmc.selection.max_train_score: the value is 0, but method.name=pmc_alignment weights "
            "its refusals by the mean score of the replacement answers. Set the value to null or "
            "to a number above 0."
        ]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the settings of a run from a YAML file and applies `section.key=value` overrides.

    Args:
        path: YAML file; settings that the file does not give keep their defaults.
        overrides: texts that are applied in this order, such as `pmc.schedule.epochs=20`,
            `data.evaluate.forget.path=forget.jsonl`, `finetune.data=full.jsonl` or
            `finetune.data=[a.jsonl, b.jsonl]`.

    Raises:
        UserError: the file cannot be read, its YAML is invalid (the message names the line), or
            settings or overrides are invalid (the message lists all faults).
    """
    raw = read_settings(path)
    raw, faults = apply_overrides(raw, overrides)
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
    if not config.model.path:
        raise UserError(
            "model.path: no model is given. Set model.path to a model folder, a *.gguf file or a "
            "Hub name."
        )
    return config.model.path


def output_dir(config: Config) -> str:
    if not config.output.dir:
        raise UserError("output.dir: no folder is given. Set output.dir to a folder for results.")
    return config.output.dir
