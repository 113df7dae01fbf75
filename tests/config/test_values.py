"""Settings built in code: ranges, conversions, comparison, documentation."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny

from pmc_jax.commands.settings_help import field_texts
from pmc_jax.config import evaluate, mesh, method, pmc, train
from pmc_jax.config import run as config_module
from pmc_jax.config.data import DataConfig, PeopleConfig, SourceConfig
from pmc_jax.config.differences import differences
from pmc_jax.config.pmc import (
    AugmentationConfig,
    SamplingConfig,
    ScheduleConfig,
    ScoreConfig,
    SelectionConfig,
)
from pmc_jax.config.run import (
    Config,
    FinetuneConfig,
    MeshConfig,
    ModelConfig,
    PMCConfig,
    TrainConfig,
)
from pmc_jax.config.schema import dotted_names
from pmc_jax.config.train import AdamWConfig
from pmc_jax.errors import UserError

SECTIONS = [
    value
    for module in (config_module, evaluate, mesh, method, pmc, train)
    for value in vars(module).values()
    if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
]


COUNTS = ("num_samples", "batch_size", "epochs", "max_attempts", "max_new_tokens", "max_length")
COUNTS += ("accumulation_steps", "rank", "top_k", "retain_rows", "count", "steps_per_round")


@pytest.mark.parametrize("name", [n for n in dotted_names(Config) if n.split(".")[-1] in COUNTS])
def test_huge_counts_are_refused(name):
    for value in (10**9, 2**31, 2**63, 10**400):
        message = tiny.fault(config_module.config_from_overrides, [f"{name}={value}"])
        assert f"{name}: the value must be between" in message and len(message) < 200


@pytest.mark.parametrize(
    ("cls", "bad"),
    [
        (SamplingConfig, {"num_samples": 0}),
        (SamplingConfig, {"num_samples": 2.0}),
        (SamplingConfig, {"num_samples": True}),
        (SamplingConfig, {"num_samples": None}),
        (SamplingConfig, {"temperature": -0.1}),
        (SamplingConfig, {"temperature": float("nan")}),
        (SamplingConfig, {"temperature": 10**400}),
        (SamplingConfig, {"top_p": 0}),
        (SamplingConfig, {"top_p": 1.01}),
        (SamplingConfig, {"top_k": -1}),
        (SamplingConfig, {"max_new_tokens": 0}),
        (ScheduleConfig, {"lambda_retain": -1}),
        (ScheduleConfig, {"epochs": -1}),
        (ScoreConfig, {"min_len": -1}),
        (SelectionConfig, {"tau": 0}),
        (ScheduleConfig, {"steps_per_round": 0}),
        (SelectionConfig, {"rule": "worst"}),
        (SelectionConfig, {"max_train_score": 1.5}),
        (AugmentationConfig, {"question_word_dropout": 1.0}),
        (AugmentationConfig, {"question_word_dropout": -0.1}),
        (AugmentationConfig, {"answer_prefix": 1.0}),
        (SelectionConfig, {"prefer": "shortest"}),
        (SelectionConfig, {"max_perplexity": 0.5}),
        (SelectionConfig, {"max_repetition": 2}),
        (TrainConfig, {"learning_rate": 0}),
        (AdamWConfig, {"weight_decay": -1}),
        (AdamWConfig, {"beta2": 1}),
        (TrainConfig, {"batch_size": 0}),
        (TrainConfig, {"accumulation_steps": 0}),
        (TrainConfig, {"warmup_steps": -1}),
        (TrainConfig, {"decay": "cosine"}),
        (TrainConfig, {"max_grad_norm": 0}),
        (FinetuneConfig, {"epochs": -1}),
        (FinetuneConfig, {"batch_size": 0}),
        (ModelConfig, {"question_tag": "Question: "}),
        (ModelConfig, {"question_tag": "{question} {question}"}),
        (ModelConfig, {"question_tag": "{question} {"}),
        (ModelConfig, {"question_tag": "{question:>9}"}),
        (ModelConfig, {"question_tag": "{question!r}"}),
        (ModelConfig, {"format": "html"}),
        (SourceConfig, {"rows": "5"}),
        (SourceConfig, {"rows": "-1:3"}),
        (SourceConfig, {"rows": "3:3"}),
        (SourceConfig, {"rows": "0:4:2"}),
        (DataConfig, {"max_length": 0}),
        (DataConfig, {"evaluate": {"others": "x"}}),
        (PeopleConfig, {"forget": 12}),
        (config_module.OutputConfig, {"keep": 0}),
        (MeshConfig, {"tensor": -2}),
        (MeshConfig, {"slices": -2}),
        (MeshConfig, {"train_rules": {"mlp": ["x"]}}),
        (MeshConfig, {"sample_rules": {"x": ["tensor"]}}),
        (Config, {"pmc": TrainConfig()}),
    ],
)
def test_ranges_hold_for_settings_built_in_code(cls, bad):
    with pytest.raises(UserError) as caught:
        cls(**bad)
    assert str(caught.value).startswith(f"{cls.__name__}: {next(iter(bad))}")


def test_values_at_the_edge_are_allowed():
    PMCConfig(
        sampling={"temperature": 0, "top_p": 1, "top_k": 0},
        schedule={"epochs": 0, "lambda_retain": 0},
        selection={"max_train_score": 0},
    )
    for rows in ("0:1", ":4", "3:", ":"):
        SourceConfig(rows=rows)
    PeopleConfig(count=2, forget=1)


def test_code_may_give_lists_mappings_paths_and_numpy_numbers():
    config = Config(
        pmc={"sampling": {"num_samples": np.int64(3), "top_p": np.float32(0.5)}},
        data={"forget": Path("a.jsonl")},
        finetune=FinetuneConfig(data=[SourceConfig("b")]),
    )
    assert type(config.pmc.sampling.num_samples) is int
    assert config.data.forget == SourceConfig("a.jsonl")
    assert config.finetune.data == (SourceConfig("b"),)
    json.dumps(dataclasses.asdict(config))


def test_differences_name_dotted_keys():
    there = dataclasses.asdict(Config())
    here = dataclasses.asdict(
        Config(
            pmc={"schedule": {"epochs": 20}},
            data=DataConfig(evaluate={"retain": SourceConfig("r")}),
        )
    )
    assert differences(there, there) == []
    found = differences(there, here)
    assert "pmc.schedule.epochs was 12 and is now 20" in found
    assert 'data.evaluate.retain.path was absent and is now "r"' in found
    assert not [line for line in found if line.startswith(("train", "finetune", "model"))]


@pytest.mark.parametrize("cls", SECTIONS, ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_and_frozen(cls):
    names = {field.name for field in dataclasses.fields(cls)}
    assert names and set(field_texts(cls)) == names
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().anything = 1
