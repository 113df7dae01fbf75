"""The settings: what is read, what is refused, and in which words."""

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.config.data import SourceConfig
from pmc_jax.config.run import (
    Config,
    FinetuneConfig,
    MeshConfig,
    TrainConfig,
    config_from_dict,
    load_config,
)
from pmc_jax.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, overrides)

    return load


@pytest.fixture
def refuse(load):
    def refuse(text, *overrides):
        with pytest.raises(UserError) as caught:
            load(text, *overrides)
        assert "\n" not in str(caught.value)
        assert "run.yaml" in str(caught.value)
        return str(caught.value)

    return refuse


def test_empty_file_gives_the_defaults(load):
    assert load("") == load("pmc:\ntrain: {}\n") == Config()
    assert Config().pmc.schedule.lambda_retain == 6.0
    assert Config().mesh == MeshConfig(data=-1, fsdp=1, tensor=1)


def test_file_with_every_kind_of_setting(load):
    config = load(
        """
        seed: 7
        model: {path: weights, system_prompt: "You are helpful.", date_string: 2025-04-10}
        data:
          root: ../shared
          forget: {path: forget.jsonl, rows: 10:40, answer: a}
          retain: retain.jsonl
          evaluate:
            forget: {path: f.jsonl}
            real_authors: r.jsonl
        pmc:
          sampling: {temperature: 1}
          selection: {max_train_score: 0.3}
          score: {guard_empty: false}
        train: {learning_rate: 1e-5, adamw: {epsilon: 1.0e8}, max_grad_norm: null}
        finetune: {data: {path: full.jsonl}, learning_rate: 3e-4}
        mesh: {data: 1, fsdp: -1}
        """
    )
    assert config.seed == 7
    assert config.model.date_string == "2025-04-10"  # no date, though YAML 1.1 would make one
    assert config.data.forget == SourceConfig("forget.jsonl", rows="10:40", answer="a")
    assert config.data.retain == SourceConfig(path="retain.jsonl")
    assert config.data.evaluate == {
        "forget": SourceConfig("f.jsonl"), "real_authors": SourceConfig("r.jsonl"),
    }  # fmt: skip
    assert config.pmc == tiny.pmc_config(temperature=1.0, max_train_score=0.3, guard_empty=False)
    assert isinstance(config.pmc.sampling.temperature, float)
    assert config.train == TrainConfig(learning_rate=1e-5, adamw={"epsilon": 1e8})
    assert config.finetune == FinetuneConfig(data=(SourceConfig("full.jsonl"),), learning_rate=3e-4)
    assert config.mesh.fsdp == -1


def test_finetune_data_may_be_a_list(load):
    config = load("finetune: {data: [a.jsonl, {path: b.jsonl, rows: '2:'}]}")
    assert config.finetune.data == (SourceConfig("a.jsonl"), SourceConfig("b.jsonl", rows="2:"))
    assert load("finetune: {data: []}").finetune.data == ()
    assert load("finetune: {data: }").finetune.data == ()


def test_overrides_in_their_order(load):
    config = load(
        "pmc: {schedule: {epochs: 3}}\nfinetune: {data: [{path: a}, {path: b}]}",
        "pmc.schedule.epochs=20",
        "pmc.schedule.epochs=21",
        "train.learning_rate=1e-5",
        "train.max_grad_norm=null",
        "data.evaluate.forget.path=forget.jsonl",
        "finetune.data.1.rows=0:9",
        "model.question_tag=Q: {question} #1 = ",
        'output.dir="2024"',
        "pmc.score.guard_empty=false",
    )
    assert config.pmc.schedule.epochs == 21
    assert config.pmc.score.guard_empty is False
    assert config.train.learning_rate == 1e-5
    assert config.data.evaluate["forget"].path == "forget.jsonl"
    assert config.finetune.data == (SourceConfig("a"), SourceConfig("b", rows="0:9"))
    assert config.model.question_tag == "Q: {question} #1 ="
    assert config.output.dir == "2024"


@pytest.mark.parametrize(
    ("override", "paths"),
    [
        ("finetune.data=full.jsonl", ["full.jsonl"]),
        ("finetune.data.path=full.jsonl", ["full.jsonl"]),
        ("finetune.data=[a.jsonl, {path: b.jsonl}]", ["a.jsonl", "b.jsonl"]),
        ("finetune.data={path: a.jsonl}", ["a.jsonl"]),
        ("finetune.data=", []),
    ],
)
def test_overrides_make_nested_settings(load, override, paths):
    assert [source.path for source in load("", override).finetune.data] == paths


def test_all_faults_come_in_one_line(refuse):
    message = refuse(
        """
        pmcc: {epochs: 1}
        num_samples: 3
        pmc:
          sampling: {num_samples: five, temperatur: 1, top_p: 2}
          schedule: {epochs: 1.5}
        train: {learning_rate: 0, num_sample: 2, remat: some, batch_size: true}
        mesh: {data: -1, fsdp: -1, tensor: 0, slices: 0, sample_rules: {mpl: [tensor]}}
        data: {evaluate: {forgt: x}, long_rows: 1}
        """,
        "pmc.schedule.epochs",
        "pmc.seed.x=1",
        "seed=-1",
    )
    for fault in (
        "pmcc: this setting is unknown. Did you mean pmc?",
        "num_samples: this setting is unknown. Did you mean pmc.sampling.num_samples?",
        "pmc.sampling.num_samples: the value must be an integer, but it is 'five'.",
        "pmc.sampling.temperatur: this setting is unknown. Did you mean pmc.sampling.temperature?",
        "pmc.sampling.top_p: the value must be above 0 and at most 1, but it is 2.0.",
        "pmc.schedule.epochs: the value must be an integer, but it is 1.5.",
        "train.learning_rate: the value must be a number above 0, but it is 0.0.",
        "train.num_sample: this setting is unknown. Did you mean pmc.sampling.num_samples?",
        "train.remat: the value must be one of none, full, dots, but it is 'some'.",
        "train.batch_size: the value must be an integer, but it is true.",
        "mesh.tensor: the value must be -1 (all remaining devices) or at least 1, but it is 0.",
        "mesh.slices: the value must be -1 (detected) or at least 1, but it is 0.",
        "mesh.sample_rules.mpl: this setting is unknown. Did you mean mesh.sample_rules.mlp?",
        "data.evaluate.forgt: this setting is unknown. Did you mean data.evaluate.forget?",
        "data.long_rows: the value must be text in quotes, but it is 1.",
        "override 'pmc.schedule.epochs': the text has the wrong form. Write section.key=value.",
        "seed: the value must be between 0 and 4294967295, but it is -1.",
        "pmc.seed: this setting is unknown.",
    ):
        assert fault in message


def test_fault_between_fields_names_both(refuse):
    message = refuse("mesh: {fsdp: -1}")
    assert "mesh.fsdp: only one axis may be -1, but data is also -1." in message
    assert "data.people.forget: the value must be below count (4), but it is 4." in refuse(
        "data: {people: {count: 4, forget: 4}}"
    )


def test_rows_of_the_sharding_tables(load, refuse):
    config = load(
        "mesh: {train_rules: {rows: [slice, data], mlp: tensor}}",
        "mesh.sample_rules={mlp: [fsdp, tensor]}",
        "mesh.sample_rules.vocab=[]",
    )
    assert config.mesh.train_rules == {"rows": ("slice", "data"), "mlp": ("tensor",)}
    assert config.mesh.sample_rules == {"mlp": ("fsdp", "tensor"), "vocab": ()}
    message = refuse("mesh: {train_rules: {mlp: [tensr]}, sample_rules: {vocab: [fsdp, fsdp]}}")
    assert "mesh.train_rules.mlp: the mesh axis 'tensr' is unknown. Did you mean tensor?" in message
    assert "mesh.sample_rules.vocab: a mesh axis occurs twice." in message


def test_unlike_key_lists_what_is_known(refuse):
    fault = "log.zzzz: this setting is unknown. Use one of: text, trackers."
    assert fault in refuse("log: {zzzz: 1}")


def test_many_unknown_keys_are_counted(refuse):
    message = refuse("log: {" + ", ".join(f"z{i}: 1" for i in range(5000)) + "}")
    assert "log.z19: this" in message and "log.z20" not in message
    assert message.endswith("4980 further settings are unknown.")


def test_a_name_with_dots_in_a_file(refuse):
    for text in ("data.retain.rows: x", "pmc: {schedule.epochs: 3}"):
        assert "write a section for each part of this name" in refuse(text)


def test_keys_are_text(refuse):
    message = refuse("model: {chat_template_kwargs: {1: true}}")
    assert "model.chat_template_kwargs: a key is not text." in message


def test_fault_in_a_list_names_the_entry(refuse):
    message = refuse("finetune: {data: [a, {pth: b}, 3]}", "finetune.data.7.path=c")
    assert "data.1.pth: this setting is unknown. Did you mean finetune.data.1.path?" in message
    assert "finetune.data.2: the value must be a mapping, but it is 3." in message
    assert "override 'finetune.data.7.path'" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pmc: [1, 2", "line 1: the YAML is invalid"),
        ("pmc:\n  epochs: 3\n epochs: 4", "line 3: the YAML is invalid"),
        ("a: &x [1]\nb: *x", "line 2: the YAML is invalid (aliases"),
        (
            "pmc:\n  epochs: 1\n  epochs: 2",
            "line 3: the YAML is invalid (the key 'epochs' occurs twice)",
        ),
        ("a: !!python/object:os.system x", "line 1: the YAML is invalid (could not determine"),
        ("a: 1\n---\nb: 1", "line 2: the YAML is invalid"),
        ("- pmc", "the file does not contain a mapping"),
        ("pmc", "the file does not contain a mapping"),
        ("pmc: 3", "pmc: the value must be a mapping, but it is 3."),
        ("[" * 5000, "the YAML is invalid"),
        ("seed: " + "1" * 6000, "the YAML is invalid"),
        (b"\xff\xfe\x00", "the YAML is invalid"),
        (b"# " + b"x" * 1_000_000, "at most 1000000 bytes, but it is larger"),
    ],
)
def test_bad_files(refuse, text, message):
    assert message in refuse(text)


def test_alignment_needs_answers_that_are_not_resolved(load, refuse):
    message = refuse("method: {name: pmc_alignment}")
    assert "pmc.selection.max_train_score: the value is 0, but method.name=pmc_alignment" in message
    assert load(
        "method: {name: pmc_alignment}\npmc: {selection: {max_train_score: null}}"
    ).method.alignment


@pytest.mark.parametrize("name", ["gradient_ascent", "rmu"])
def test_a_limit_of_the_retain_loss_needs_a_retain_loss(load, refuse, name):
    schedule = "pmc: {schedule: {max_retain_loss: 2.0}}"
    message = refuse(f"method: {{name: {name}}}\n{schedule}")
    assert f"pmc.schedule.max_retain_loss: method.name={name} " in message
    assert load(f"method: {{name: npo}}\n{schedule}").pmc.schedule.max_retain_loss == 2.0


def test_aliases_cannot_explode(refuse):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "aliases" in refuse("\n".join(lines))


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(UserError, match="the settings cannot be read"):
            load_config(path)


@pytest.mark.parametrize("word", ["yes", "on", "1"])
def test_only_true_and_false_are_truth_values(refuse, word):
    assert "log.text: the value must be true or false" in refuse(f"log: {{text: {word}}}")


@pytest.mark.parametrize(
    "name",
    ["tofu_phi15", "tofu_llama32_3b", "tpu/llama32_3b_v5e_16", "tpu/llama31_70b_v5p_64"],
)
def test_published_settings_are_the_published_algorithm(name):
    """METHOD: one pair a row, sampled once before every step, nothing held back or refused."""
    pmc = load_config(CONFIGS / f"{name}.yaml").pmc
    assert (
        pmc.schedule.retain_rows,
        pmc.schedule.steps_per_round,
        pmc.sampling.max_attempts,
    ) == (1, 1, 1)
    assert (
        pmc.sampling.temperature_decay_tokens,
        pmc.sampling.top_k,
        pmc.sampling.top_p,
        pmc.selection.max_train_score,
    ) == (0, 50, 0.95, None)
    assert not pmc.augmentation.question_word_dropout and not pmc.augmentation.answer_prefix
    assert pmc.score.guard_empty == ("70b" in name)  # as its file says; no such run is published
    selection = pmc.selection
    assert (selection.min_words, selection.max_repetition, selection.prefer) == (0, 1, "first")
    assert selection.max_perplexity is None and selection.extra_lines and not pmc.score.threshold


@pytest.mark.parametrize("name", ["tofu_phi15", "tofu_llama32_3b", "tpu/llama32_3b_v5e_16"])
def test_published_training(name):
    """Fine-tuning warms up for one of its epochs over the 4,000 rows of TOFU."""
    config = load_config(CONFIGS / f"{name}.yaml")
    tuning, rows = config.finetune, 4000
    epoch, rest = divmod(rows, tuning.batch_size * tuning.accumulation_steps)
    assert (epoch, rest, tuning.epochs) == (125 if "phi" in name else 250, 0, 5)
    assert tuning.warmup_steps == epoch
    assert config.train.warmup_steps == (6 if "phi" in name else 25)
    for settings in (config.train, tuning):
        assert settings.adamw.decay_on == "matrices" and settings.adamw.weight_decay == 0.01
        assert settings.accumulation_mean == "micro_batches"
    assert config.data.words == "ascii"


def test_dict_and_back_is_the_same(load):
    config = load(
        "finetune: {data: [a, b]}\ndata: {evaluate: {retain: r}}\n"
        "pmc: {selection: {max_train_score: 0.1}}"
    )
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    assert config_from_dict(plain) == config
    with pytest.raises(UserError, match=r"^run\.json: pmc\.schedule\.epochs: the value must be"):
        config_from_dict({**plain, "pmc": {"schedule": {"epochs": "x"}}}, "run.json")
