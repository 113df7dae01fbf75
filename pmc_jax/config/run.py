"""The settings of a run: frozen dataclasses are the schema, `load_config` reads them from YAML.

The defaults are those of the published Llama run where there is one (arXiv 2507.04219). A setting
is checked as soon as it is built, from a file or in code; `pmc_jax.config.schema` has the checks
and the wording of faults. `pmc_jax.data` looks up the paths of data.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmc_jax.config import schema
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.loader import apply_overrides, read_settings
from pmc_jax.config.method import MethodConfig
from pmc_jax.config.plan import PlanConfig
from pmc_jax.config.pmc import PMCConfig
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.schema import NOT_EMPTY, SEED, Check, Section, at_least, one_of, setting
from pmc_jax.config.sharding import LOGICAL_AXES, rule_faults
from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError

EVALUATION_SETS = (
    "forget",
    "forget_paraphrased",
    "retain",
    "world_facts",
    "real_authors",
    "holdout",  # rows similar to the forget rows that no model has seen
    "relearn",  # rows that the relearning attack trains on
)


def _is_rows(text: str) -> bool:
    parts = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", text)
    if parts is None:
        return False
    start, stop = parts.groups()
    return not stop or int(start or 0) < int(stop)


def _is_question_tag(text: str) -> bool:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:  # an unpaired brace
        return False
    return fields == ["question"]


_ROWS = Check("rows as 'first:end' with end above first, such as '0:40'", _is_rows)
_QUESTION_TAG = Check("text with {question} in it once and no other braces", _is_question_tag)
_AXIS = Check("-1 (the rest of the devices) or at least 1", lambda size: size == -1 or size >= 1)
_SLICES = Check("-1 (as devices report) or at least 1", lambda size: size == -1 or size >= 1)
_LOGICAL = {schema.KEYS: LOGICAL_AXES}


@dataclass(frozen=True)
class SourceConfig(Section):
    """Where rows of text come from; in YAML a bare text stands for `{path: text}`.

    Fields:
        path: a file, or a path with a scheme of `pmc_jax.data.sources`; None = not given.
        rows: "first:end", the rows to read, counted from 0, end excluded; None = all.
        question: name of the question column.
        answer: name of the answer column; never read for the forget set.
        paraphrased: name of the column with the paraphrased answer; only evaluation reads it, if
            the source has it.
        wrong: name of the column with a list of wrong answers; only evaluation reads it, if the
            source has it.
    """

    path: str | None = None
    rows: str | None = setting(None, _ROWS)
    question: str = setting("question", NOT_EMPTY)
    answer: str = setting("answer", NOT_EMPTY)
    paraphrased: str = setting("paraphrased_answer", NOT_EMPTY)
    wrong: str = setting("perturbed_answer", NOT_EMPTY)

    shorthand = "path"


@dataclass(frozen=True)
class ModelConfig(Section):
    r"""The model and the format of its prompts.

    Fields:
        path: folder or hub name of a Hugging Face checkpoint, or a GGUF file.
        config: config.json (or its folder) from which `pmc plan` reads the shape of the model; None
            = that of `path`.
        compute_dtype: auto | float32 | bfloat16, dtype of computation; auto = bfloat16 on TPU and
            GPU, float32 on CPU.
        cache_dtype: auto | float32 | bfloat16, dtype of the key-value cache in sampling; auto =
            compute_dtype.
        format: auto | chat | tags, format of prompts; auto = chat if the tokenizer has a chat
            template, else tags.
        system_prompt: system message of the chat format; None = no system message.
        date_string: date for the chat template; None = the default of the template.
        question_tag: prompt of the tags format; `{question}` stands for the question.
        answer_tag: text before the answer in the tags format; the model learns to write it.
    """

    path: str | None = None
    config: str | None = None
    compute_dtype: str = setting("auto", one_of("auto", "float32", "bfloat16"))
    cache_dtype: str = setting("auto", one_of("auto", "float32", "bfloat16"))
    format: str = setting("auto", one_of("auto", "chat", "tags"))
    system_prompt: str | None = None
    date_string: str | None = None
    question_tag: str = setting("Question: {question}\n", _QUESTION_TAG)
    answer_tag: str = "Answer: "


@dataclass(frozen=True)
class PeopleConfig(Section):
    """The generated fictitious people.

    Fields:
        count: number of people.
        forget: number of people to forget; below `count`, so that some are retained.
        questions: questions per person.
        seed: seed of the generator.
    """

    count: int = setting(12, at_least(2))
    forget: int = setting(4, at_least(1))
    questions: int = setting(5, at_least(1))
    seed: int = setting(0, SEED)

    def cross_faults(self) -> list[str]:
        if self.forget < self.count:
            return []
        return [f"forget: expected below count ({self.count}), got {self.forget}"]


@dataclass(frozen=True)
class DataConfig(Section):
    """The rows of a run.

    Fields:
        root: folder for the relative paths of sources; "" = the current folder.
        forget: questions to forget; their answers are never read.
        retain: question-answer pairs to keep.
        forget_answers: the forget questions with their true answers, for methods that train on
            them; PMC never reads this.
        evaluate: name -> source of question-answer pairs for evaluation only; names of
            `EVALUATION_SETS`.
        people: the generated people, for sources with the path `people:...`.
        max_length: maximum tokens of a row, prompt and answer together.
        long_rows: error | drop, what happens to a row longer than `max_length`.
        on_overlap: warn | error, what happens if a forget question is also a retain question.
    """

    root: str = ""
    forget: SourceConfig = field(default_factory=SourceConfig)
    retain: SourceConfig = field(default_factory=SourceConfig)
    forget_answers: SourceConfig = field(default_factory=SourceConfig)
    evaluate: dict[str, SourceConfig] = field(
        default_factory=dict, metadata={schema.KEYS: EVALUATION_SETS}
    )
    people: PeopleConfig = field(default_factory=PeopleConfig)
    max_length: int = setting(256, at_least(2))
    long_rows: str = setting("error", one_of("error", "drop"))
    on_overlap: str = setting("warn", one_of("warn", "error"))


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """Fine-tuning of the target model before unlearning; also has the settings of `train`.

    Fields:
        batch_size: rows per micro-batch.
        data: sources of question-answer pairs, in YAML one source or a list; empty = no
            fine-tuning.
        epochs: passes over the data.
    """

    data: tuple[SourceConfig, ...] = ()
    epochs: int = setting(5, at_least(0))


@dataclass(frozen=True)
class MeshConfig(Section):
    """Number of devices along each mesh axis; one of data, fsdp and tensor may be -1 = the rest.

    Fields:
        data: copies of the model per slice.
        fsdp: shards of weights and optimizer state, gathered layer by layer.
        tensor: shards of heads, hidden units and vocabulary.
        slices: groups of devices joined by the data-centre network, each with copies of the model;
            -1 = as many as the devices report.
        train_rules: logical axis -> mesh axes, which replace those of the table for training; see
            `pmc_jax.config.sharding`.
        sample_rules: logical axis -> mesh axes, which replace those of the table for sampling.
    """

    data: int = setting(-1, _AXIS)
    fsdp: int = setting(1, _AXIS)
    tensor: int = setting(1, _AXIS)
    slices: int = setting(1, _SLICES)
    train_rules: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=_LOGICAL)
    sample_rules: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=_LOGICAL)

    def cross_faults(self) -> list[str]:
        rest = [name for name in ("data", "fsdp", "tensor") if getattr(self, name) == -1]
        faults = [*rule_faults(self.train_rules, "train_rules")]
        faults += rule_faults(self.sample_rules, "sample_rules")
        if len(rest) > 1:
            faults += [f"{rest[1]}: -1 is allowed on one axis only, {rest[0]} has it already"]
        return faults


@dataclass(frozen=True)
class OutputConfig(Section):
    """Where the results of a run go, and how often checkpoints are written.

    Fields:
        dir: folder of the run; the file or the command line must give one.
        checkpoint_every: gradient steps between checkpoints; 0 = every ten minutes.
        checkpoint_end: also write a checkpoint after the last step.
        keep: number of checkpoints to keep; the oldest one is removed first.
    """

    dir: str | None = None
    checkpoint_every: int = setting(0, at_least(0))
    checkpoint_end: bool = True
    keep: int = setting(2, at_least(1))


@dataclass(frozen=True)
class LogConfig(Section):
    """The log of a run.

    Fields:
        text: log questions and answers, which may contain the secret.
    """

    text: bool = False


@dataclass(frozen=True)
class Config(Section):
    """All settings of a run, one section each.

    Fields:
        model, data, pmc, method, train, finetune, evaluate, mesh, plan, output, log, report: the
            sections.
        seed: seed of all random choices: sampling, pairing and order of rows.
        profile: write a trace of the second round to `output.dir`/profile, for XProf.
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
        if self.method.name != "pmc_alignment" or self.pmc.selection.max_train_score != 0:
            return []
        return [
            "pmc.selection.max_train_score: expected null or above 0 with "
            "method.name=pmc_alignment, which weights its refusals by the mean stored score; "
            "got 0"
        ]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the settings of a run from a YAML file and applies `section.key=value` overrides.

    Args:
        path: YAML file; absent settings keep their default.
        overrides: applied in this order, such as `pmc.schedule.epochs=20`,
            `data.evaluate.forget.path=forget.jsonl`, `finetune.data=full.jsonl` or
            `finetune.data=[a.jsonl, b.jsonl]`.

    Raises:
        UserError: the file cannot be read (the message names the line of bad YAML), or settings or
            overrides are invalid; one line lists all faults, separated by "; ".
    """
    raw = read_settings(path)
    raw, faults = apply_overrides(raw, overrides)
    where = f"{path} with overrides" if overrides else str(path)
    return schema.build(Config, raw, where=where, faults=faults)


def config_from_overrides(overrides: Sequence[str]) -> Config:
    """The default settings with `section.key=value` overrides.

    Raises:
        UserError: invalid overrides; one line lists all faults.
    """
    raw, faults = apply_overrides({}, overrides)
    return schema.build(Config, raw, where="overrides", faults=faults)


def config_from_dict(settings: dict[str, Any], where: str = "settings") -> Config:
    """Settings from nested dicts, the inverse of `dataclasses.asdict`.

    Args:
        where: origin of the settings, for messages.

    Raises:
        UserError: invalid settings; one line lists all faults.
    """
    return schema.build(Config, settings, where=where)


def model_path(config: Config) -> str:
    if not config.model.path:
        raise UserError("model.path: not given; name a model folder, a *.gguf file or a hub name")
    return config.model.path


def output_dir(config: Config) -> str:
    if not config.output.dir:
        raise UserError("output.dir: not given; name the folder for the results")
    return config.output.dir
