"""The command line: bad input is one line that names the fault and the fix, and changes nothing."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_runs as tiny
from host_runs import without_bars

from pmc_jax import cli
from pmc_jax.commands.settings_help import field_texts
from pmc_jax.config.compare import load_compare
from pmc_jax.config.run import load_config
from pmc_jax.config.schema import Section

COMMANDS = ("finetune", "unlearn", "evaluate", "sample", "export")


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """A folder of good inputs, the current one: a test spoils one of them."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


# Settings


def test_missing_config(inputs):
    tiny.assert_names(
        tiny.refused("unlearn", config="absent.yaml"), "absent.yaml", "cannot be read"
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pmc: {epochs: 3\n", ("run.yaml", "line 2")),
        ("pmc:\n  epochs: 3\n  epochs: 4\n", ("run.yaml", "line 3", "occurs twice")),
        ("- a\n- b\n", ("run.yaml", "not contain a mapping")),
    ],
)
def test_bad_yaml(text, parts, inputs):
    Path("run.yaml").write_text(text)
    tiny.assert_names(tiny.refused("unlearn"), *parts)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "pmc.num_sample=3",
            ("pmc.num_sample: this setting", "Did you mean pmc.sampling.num_samples?"),
        ),
        ("train.lr=0.1", ("train.lr: this setting is unknown",)),
        ("pcm.epochs=3", ("pcm: this setting is unknown", "Did you mean pmc?")),
        (
            "pmc.sampling.num_samples=0",
            ("num_samples: the value must be between 1 and 10000, but it is 0",),
        ),
        ("pmc.schedule.epochs=many", ("pmc.schedule.epochs: the value must be an integer",)),
        ("pmc.score.name=rouge", ("pmc.score.name", "rougeL_recall")),
        ("data.evaluate.forgot=forget.jsonl", ("data.evaluate.forgot", "data.evaluate.forget")),
        ("pmc.schedule.epochs", ("'pmc.schedule.epochs': the text", "section.key=value")),
    ],
)
def test_bad_settings(override, parts, inputs):
    tiny.assert_names(tiny.refused("unlearn", override), *parts)


def test_all_bad_settings_are_named_at_once(inputs):
    message = tiny.refused("unlearn", "pmc.sampling.num_samples=0", "seed=-1", "output.dri=x")
    tiny.assert_names(message, "pmc.sampling.num_samples", "seed", "output.dri", "output.dir")


@pytest.mark.parametrize("command", ["finetune", "unlearn", "export"])
def test_output_dir_is_needed(command, inputs):
    options = ["output.dir=null", "finetune.data=[forget.jsonl]"]
    tiny.assert_names(tiny.refused(command, *options), "output.dir: no folder is given.")


@pytest.mark.parametrize("command", ["finetune", "unlearn", "evaluate", "sample"])
def test_model_path_is_needed(command, inputs):
    options = ["model.path=null", "finetune.data=[forget.jsonl]"]
    tiny.assert_names(tiny.refused(command, *options), "model.path: no model is given.")


@pytest.mark.parametrize(
    ("command", "override", "part"),
    [
        ("unlearn", "data.forget.path=null", "data.forget"),
        ("sample", "data.forget.path=null", "data.forget"),
        ("unlearn", "data.evaluate.retain.path=null", "data.evaluate.retain"),
        ("evaluate", "data.evaluate=null", "data.evaluate"),
        ("finetune", "finetune.data=null", "finetune.data"),
    ],
)
def test_sources_are_needed(command, override, part, inputs):
    tiny.assert_names(tiny.refused(command, override), part)


def test_mesh_that_does_not_fit(inputs):
    for command in ("unlearn", "evaluate", "sample"):
        message = tiny.refused(command, "mesh.data=3", "mesh.tensor=5")
        tiny.assert_names(message, "mesh", "the number of devices (1)", "[1]")


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


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_nul_character_is_refused(command, capsys):
    assert cli.main([command, "a\0b"]) == 2
    assert "contains a NUL character" in capsys.readouterr().err


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
    for arguments in (["unlearn", "--help"], ["compare", "--help"], ["config", "absent.yaml"]):
        assert _python(code.replace("ARGUMENTS", repr(arguments)))[-1] == "loaded"
    for command in ("verify", "report"):
        assert "jax" not in _python(code.replace("ARGUMENTS", f"['{command}', 'absent']"))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_names_its_own_options(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: pmc {command} ")
    assert ("--purge" in text) == (command in ("unlearn", "compare"))
    overwrites = ("check", "finetune", "unlearn", "compare", "export")
    assert ("--overwrite" in text) == (command in overwrites)
    assert ("--coordinator" in text) == (command in COMMANDS)


@pytest.mark.parametrize(
    ("command", "read", "not_read"),
    [
        ("unlearn", ("pmc.sampling:", "train.lora:"), ("plan:",)),
        ("sample", ("pmc.sampling:", "temperature_decay_tokens int = 2"), ("train:", "pmc.score:")),
        ("chat", ("model:", "evaluate:", "max_new_tokens int = 96"), ("data:", "pmc.sampling:")),
        ("compare", ("max_seconds float = 120.0", "mapping of entry"), ("train:",)),
        ("report", ("report:", "file str = null"), ("model:",)),
        ("verify", (), ("Settings",)),
    ],
)
def test_help_of_a_command_describes_its_settings(command, read, not_read, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert all(part in text for part in read)
    assert not [part for part in not_read if any(line.startswith(part) for line in lines)]
    assert max(len(line) for line in lines) <= 90


def test_every_setting_is_described():
    def sections(cls: type[Section]) -> Iterator[type[Section]]:
        yield cls
        for inner in cls.__subclasses__():
            yield from sections(inner)

    for cls in sections(Section):
        if cls.__module__.startswith("pmc_jax.config"):
            names = {item.name for item in dataclasses.fields(cls)}
            assert names <= field_texts(cls).keys(), cls


def test_a_shell_completes_commands_options_and_settings(tmp_path):
    pytest.importorskip("argcomplete", reason="needs the extra 'completion'")

    def completions(line: str) -> list[str]:
        path = tmp_path / "completions"
        variables = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(path), "_ARGCOMPLETE_IFS": "\n"}
        command = [sys.executable, "-m", "pmc_jax.cli"]
        subprocess.run(command, env=os.environ | variables, timeout=60, check=True)
        return [word.strip() for word in path.read_text().split("\n")]

    assert completions("pmc unl") == ["unlearn"]
    assert completions("pmc unlearn --pur") == ["--purge"]
    assert completions("pmc unlearn run.yaml pmc.sampling.num") == ["pmc.sampling.num_samples="]


# The settings as a command reads them


def _origins(text: str) -> dict[str, str]:
    """The last name of a setting -> the comment beside it, where it first occurs."""
    rows = [line.split("  # ") for line in text.splitlines() if "  # " in line]
    return {row[0].split(":")[0].strip(): row[1] for row in reversed(rows)}


def test_config_prints_the_settings_of_a_run(inputs):
    overrides = ["pmc.sampling={num_samples: 3}", "data.retain=other.jsonl"]
    text = tiny.succeed("config", *overrides).out
    Path("printed.yaml").write_text(text)
    assert load_config("printed.yaml") == load_config("run.yaml", overrides)
    origins = _origins(text)
    number = Path("run.yaml").read_text().split("lambda_retain")[0].count("\n") + 1
    assert origins["lambda_retain"] == f"run.yaml:{number}"
    assert (origins["num_samples"], origins["max_attempts"]) == ("override", "default")


def test_config_leaves_defaults_out(inputs):
    Path("run.yaml").write_text("data:\n  retain: a.jsonl\nfinetune:\n  data:\n  - path: b.jsonl\n")
    text = tiny.succeed("config", "--changed", "seed=0").out
    assert "default" not in text and "pmc:" not in text
    assert _origins(text) == {"path": "run.yaml:2", "data": "run.yaml:4", "seed": "override"}


def test_config_prints_the_settings_of_a_comparison(inputs):
    overrides, settings = (
        ["seeds=[1, 2]", "run.log.text=true"],
        "settings:\n  pmc.schedule.epochs: 4\n",
    )
    Path("compare.yaml").write_text(f"run: run.yaml\n{settings}methods:\n  pmc: {{}}\n")
    done = tiny.pmc("config", *overrides, config="compare.yaml")
    Path("printed.yaml").write_text(done.out)
    printed, wanted = load_compare("printed.yaml"), load_compare("compare.yaml", overrides)
    assert done.status == 0 and printed.base() == wanted.base()
    assert printed.methods == wanted.methods and printed.seeds == (1, 2)
    origins = _origins(done.out)
    assert origins["pmc.schedule.epochs"] == "compare.yaml:3" and origins["seeds"] == "override"
    assert origins["lambda_retain"].startswith("run.yaml:") and origins["text"] == "override"


def test_config_lists_every_fault(inputs):
    Path("run.yaml").write_text("pmc:\n  epochs: 3\nseed: -1\nmodle: 5\n")
    done = tiny.pmc("config", "train.lora.rank=x", "mesh", config="run.yaml")
    assert done.status == 2 and done.out == ""
    faults = (
        "override 'mesh': the text has the wrong form.",
        "run.yaml:2: pmc.epochs: this setting is unknown.",
        "run.yaml:3: seed: the value must be between 0",
        "run.yaml:4: modle: this setting is unknown.",
        "override: train.lora.rank: the value must be an integer",
    )
    lines = sorted(done.err.splitlines())
    assert len(lines) == len(faults)
    for line, fault in zip(lines, sorted(faults), strict=True):
        assert line.startswith(f"pmc: error: {fault}")


def test_settings_may_stand_before_and_behind_an_option(inputs):
    options = ["--overwrite", "seed=-1", "output.dri=x"]
    tiny.assert_names(tiny.refused("unlearn", "pmc.schedule.epochs=x", *options), "epochs", "seed")


def _process(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pmc_jax.cli", *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_installed_command_is_this_one():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="pmc")
    assert entry.load().__name__ == "command"


def test_a_process_refuses_in_one_line(inputs):
    done = _process("unlearn", "run.yaml", "model.path=nothing", folder=inputs)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = without_bars(done.stderr)
    assert line.startswith("pmc: error: model.path 'nothing'")


def test_a_process_unlearns_and_says_nothing_else(inputs):
    """Standard output holds the tables; standard error the bars, a warning, no library's chatter.

    And all of it is the same as in this process.
    """
    options = ["pmc.schedule.epochs=3", "data.max_length=40", "data.long_rows=drop"]
    options += ["data.evaluate.retain.rows=0:8"]
    tiny.write_rows(inputs / "retain.jsonl", [*tiny.RETAIN, *tiny.rows(1, seed=5, answer=60)])
    done = _process("unlearn", "run.yaml", *options, folder=inputs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Verdict: Forgotten questions: ")
    (line,) = without_bars(done.stderr)
    assert line.startswith("pmc: 1 of 9 rows is dropped")
    assert (inputs / "out" / "results.json").is_file()
    tiny.succeed("unlearn", *options, "output.dir=here")
    assert tiny.same_weights(inputs / "out" / "model", inputs / "here" / "model")
