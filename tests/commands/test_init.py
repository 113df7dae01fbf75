"""`pmc init`: a commented settings file that passes `pmc check`, and never replaces a file."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax import cli
from pmc_jax.config.run import load_config

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory) -> Path:
    return tiny.write_inputs(tmp_path_factory.mktemp("init"))


@pytest.fixture
def inputs(inputs_folder, tmp_path, monkeypatch) -> Path:
    (tmp_path / "model").symlink_to(inputs_folder / "model")
    for name in ("forget", "retain"):
        rows = {"forget": tiny.FORGET, "retain": tiny.RETAIN}[name]
        header = ["question", "answer"]
        if name == "forget":
            rows = [row | {"paraphrase": f"{row['question']} {tiny.WORDS[0]}"} for row in rows]
            header.append("paraphrase")
        lines = [",".join(header), *(",".join(row[key] for key in header) for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> tiny.Done:
    return command("init", *arguments)


def command(*arguments: str) -> tiny.Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(list(arguments))
    assert not [word for word in tiny.WORDS if word in out.getvalue() + err.getvalue()]
    return tiny.Done(status, out.getvalue(), err.getvalue())


def each_line_has_a_comment(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert not [line for line in lines if not re.search(r"# \S", line)]
    assert max(map(len, lines)) <= 120


def test_own_rows(inputs):
    done = init("--model", "model", "--forget", "forget.csv", "--retain", "retain.csv")
    assert done.status == 0, done.err
    assert (
        "forget.csv: 6 questions; true answers: found; other wordings of the questions: column "
        in done.out
    )
    assert "of 6 true answers" in done.out and "Next: pmc check my_run.yaml" in done.out
    each_line_has_a_comment(Path("my_run.yaml"))
    config = load_config("my_run.yaml")
    assert config.data.evaluate["forget_paraphrased"].question == "paraphrase"
    assert config.pmc.schedule.epochs == 24 and config.train.warmup_steps == 36
    assert [source.path for source in config.data.retain_more] == ["own"]
    checked = tiny.pmc("check", "--fast", config="my_run.yaml")
    assert checked.status == 0, checked.err
    assert not re.search("^  (unlearn quality|utility|forgotten)", checked.out, re.MULTILINE)
    text = Path("my_run.yaml").read_text()
    again = init("--model", "model")
    assert again.status == 2 and "my_run.yaml: the file exists already" in again.err
    assert Path("my_run.yaml").read_text() == text


@pytest.mark.slow
def test_the_commands_of_the_readme_reach_a_verdict(inputs):
    section = README.read_text().partition("## Your own data")[2]
    lines = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    commands = [shlex.split(line.replace("MODEL", "model"), comments=True) for line in lines]
    assert [words[1] for words in commands] == ["init", "check", "unlearn"]
    for words in commands:
        done = command(*words[1:])
        assert done.status == 0, done.err
    assert re.search(r"^Verdict: ", done.out, re.MULTILINE)
    assert Path("runs/my_run/report.html").exists() and Path("runs/my_run/model").is_dir()


def test_files_in_the_folder_are_found(inputs):
    Path("forget.csv").write_text("prompt;note\nZorbolant?;x\n")
    assert init("--model", "model", "--no-model").status == 0
    config = load_config("my_run.yaml")
    assert (config.data.forget.path, config.data.retain.path) == ("forget.csv", "retain.csv")
    assert "forget" not in config.data.evaluate  # There is no column with true answers.


def test_the_true_answers_must_have_no_fault(inputs):
    Path("forget.csv").write_text("question,answer\nZorbolant?,Porto\nWho?,\n")
    done = init("--model", "model", "--forget", "forget.csv", "--no-model")
    assert done.status == 2 and "forget.csv, line 3" in done.err, done.err
    assert not Path("my_run.yaml").exists()


@pytest.mark.parametrize("options", [[], ["--retain", "own"]])
def test_without_retain_rows_the_model_keeps_its_own_answers(options, inputs):
    Path("retain.csv").unlink()
    done = init("--model", "model", "--forget", "forget.csv", "--no-model", *options)
    assert done.status == 0, done.err
    config = load_config("my_run.yaml")
    assert config.data.retain.path == "own" and "retain" not in config.data.evaluate
    assert not config.data.retain_more
    checked = tiny.pmc("check", "--fast", config="my_run.yaml")
    assert checked.status == 0, checked.err
    assert re.search(r"^data.retain \(own\) +[12]\d\d +prompt", checked.out, re.MULTILINE)


@pytest.mark.parametrize("count", [16, 17])
def test_many_questions_need_retain_rows(count, inputs):
    Path("forget.csv").write_text(
        "".join(["question\n", *(f"Who is {i}?\n" for i in range(count))])
    )
    options = ("--model", "model", "--no-model", "--forget", "forget.csv")
    assert "No retain rows" not in init("given", *options, "--retain", "retain.csv").out
    assert ("No retain rows are given" in init("own", *options).out) == (count > 16)


def test_a_new_folder_has_example_rows(inputs):
    done = init("new", "--model", "model")
    assert done.status == 0, done.err
    assert {path.name for path in Path("new").iterdir()} == {
        *("my_run.yaml", "forget.csv", "retain.csv")
    }
    each_line_has_a_comment(Path("new/my_run.yaml"))
    config = load_config("new/my_run.yaml")
    assert config.output.dir == "new/run" and len(config.finetune.data) == 2


def test_a_folder_without_rows_gets_placeholders(inputs):
    Path("empty").mkdir()
    done = init("empty", "--model", "model")
    assert done.status == 0 and "Write empty/forget.csv and empty/retain.csv" in done.out
    assert [path.name for path in Path("empty").iterdir()] == ["my_run.yaml"]
    assert "write this file first" in Path("empty/my_run.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--forget", "absent.csv"], "absent.csv"),
        (["--retain", "absent.csv"], "absent.csv"),
        (["forget.csv"], "forget.csv: the path is a file"),
        (["--model", "absent/model.gguf"], "absent/model.gguf"),
    ],
)
def test_bad_input_writes_nothing(arguments, part, inputs):
    before = tiny.digest(inputs)
    done = init("--model", "model", *arguments)
    assert done.status == 2 and len(done.said) == 1 and part in done.err
    assert tiny.digest(inputs) == before
