"""What a finished run says of its files, who may read them, and what is left after a purge."""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax import cli
from pmc_jax.artifacts.files import write_json
from pmc_jax.artifacts.manifest import present_inputs, purge
from pmc_jax.config.reading import read_json
from pmc_jax.errors import UserError

FINETUNED = {"finetune": tiny.FINETUNE}


@pytest.fixture(scope="module")
def canaries(tmp_path_factory) -> Path:
    """A run on a model that can recite every forget answer; the folder of its inputs."""
    folder = tmp_path_factory.mktemp("canaries")
    tiny.run(folder, "output.checkpoint_every=1", **FINETUNED)
    return folder


def _texts() -> list[bytes]:
    """All that is about people: questions, and answers that the model was taught."""
    rows = [*tiny.FORGET, *tiny.RETAIN, *tiny.AGAIN]
    return [row[column].encode() for row in rows for column in ("question", "answer")]


def _files_with_texts(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).parts[0]
        for path in folder.rglob("*")
        if path.is_file() and any(text in path.read_bytes() for text in _texts())
    }


@pytest.fixture
def run(canaries, tmp_path, monkeypatch) -> Path:
    """A copy of the run, the current folder."""
    shutil.copytree(canaries, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_answers_stand_in_checkpoints_alone_and_nowhere_after_a_purge(run):
    before = tiny.results("out")["before"]
    assert before["splits"]["forget"]["rougeL_recall"] == 1  # it can recite them
    assert _files_with_texts(Path("out")) == {"checkpoints"}
    done = tiny.succeed("unlearn", "--purge")
    assert done.lines[0] == (
        "out: pmc removed checkpoints/, target/, and the texts in the log and the report"
    )
    assert _files_with_texts(Path("out")) == set()
    assert not Path("out/checkpoints").exists() and not Path("out/target").exists()
    assert tiny.pmc("verify", config="out").status == 0
    assert Path("out/model/model.safetensors").is_file()


def _moved_here() -> None:
    """Lets the manifest name the inputs of this folder, not those of the copied run."""
    path = Path("out/manifest.json")
    manifest = json.loads(path.read_text())
    for source in manifest["inputs"].values():
        source["path"] = str(Path(source["path"]).name)
    path.write_text(json.dumps(manifest))


def test_a_name_that_is_not_utf_8_is_read_again(tmp_path):
    write_json(tmp_path / "file.json", {"path": "out\udcff"})
    (tmp_path / "file.json").read_text("utf-8")
    assert read_json(tmp_path / "file.json", hint="") == {"path": "out\udcff"}


def test_a_purge_names_what_still_knows_the_data(run):
    _moved_here()
    tiny.succeed("export", "--partial")
    (Path("out") / "target.checkpoints").mkdir()
    done = tiny.succeed("unlearn", "--purge")
    assert "model-step-24/, target/" in done.lines[0] and "target.checkpoints/" in done.lines[0]
    data = "again.jsonl, forget.jsonl, retain.jsonl"
    assert done.lines[1].startswith("Delete the following files yourself")
    source, own, derived, copies = done.lines[2:]
    assert source.startswith("- The source model") and source.count(" model. ") == 1
    assert own == f"- Your data files with the private rows: {data}."
    assert derived.startswith("- Everything that was derived from the source model or the target")
    assert copies.startswith("- Backups, caches of models and data sets, and copies")
    said = json.loads(Path("out/report.json").read_text())["runs"][0]["to_delete"]
    assert [f"- {text}" for text in said["by_hand"]] == done.lines[2:]
    # What it asks for may go; other inputs may not.
    shutil.rmtree("model")
    Path("forget.jsonl").unlink()
    verified = tiny.pmc("verify", config="out")
    assert (
        verified.status == 0
        and "input missing: model (model), as expected after --purge" in verified.out
    )
    assert "model:" not in " ".join(tiny.succeed("unlearn", "--purge").lines)
    Path("retain.jsonl").unlink()
    assert tiny.pmc("verify", config="out").status == 0  # finetune.data names this file, too
    path = Path("out/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["inputs"] = {n: s for n, s in manifest["inputs"].items() if "finetune" not in n}
    path.write_text(json.dumps(manifest))
    verified = tiny.pmc("verify", config="out")
    assert verified.status == 1 and "input missing: data.retain (retain.jsonl)" in verified.lines


def test_a_target_that_pmc_did_not_make_survives_a_purge(run):
    Path("out/target/target.json").unlink()
    tiny.succeed("unlearn", "--purge")
    assert Path("out/target/model.safetensors").is_file()


def test_what_needs_the_removed_says_so(run):
    tiny.succeed("unlearn", "--purge")
    message = tiny.refused("evaluate", config="out")
    tiny.assert_names(message, "out/target", "no longer exists", "model.path=out/model")
    shutil.rmtree("out/model")
    message = tiny.refused("evaluate", config="out")
    tiny.assert_names(message, "out/model", "does not exist", "pmc export out")


def test_the_model_before_a_run_is_not_another_one(finished):
    """`finished` started from model/ itself."""
    before = tiny.digest(Path("out"))
    Path("model/config.json").write_text("{}")
    message = tiny.refused("evaluate", config="out")
    tiny.assert_names(message, "model: this is not the model from which the run in out started")
    Path("model").rename("elsewhere")
    message = tiny.refused("evaluate", config="out")
    tiny.assert_names(message, "model: the model from which the run in out started does not exist")
    assert "Hub" not in message
    assert tiny.digest(Path("out")) == before


def test_a_purge_covers_up_no_difference(run):
    Path("out/loss.png").write_bytes(b"?")
    tiny.succeed("unlearn", "--purge")
    done = tiny.pmc("verify", config="out")
    assert done.status == 1 and "changed: loss.png" in done.lines


def test_a_purge_takes_texts_out_of_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, **FINETUNED))
    done = tiny.succeed("unlearn", "log.text=true", "--purge", "pmc.schedule.epochs=2")
    assert "unlearn quality" in done.out
    assert _files_with_texts(Path("out")) == set()
    lines = tiny.log("out", "answer")
    assert len(lines) == len(tiny.FORGET) * 2 + len(tiny.RETAIN)
    assert all(line.keys() == {"kind", "split", "id"} for line in lines)
    assert tiny.pmc("verify", config="out").status == 0


def test_only_unlearn_purges(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", "run.yaml", "--purge"])
    assert "unrecognized arguments: --purge" in capsys.readouterr().err


def test_an_unfinished_run_is_not_purged(run):
    Path("out/results.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        purge("out")
    assert list(Path("out/checkpoints").iterdir())


def test_files_are_for_their_owner_alone(canaries):
    paths = [canaries / "out", *(canaries / "out").rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_a_manifest_names_every_file(canaries):
    manifest = json.loads((canaries / "out" / "manifest.json").read_text())
    present = {
        str(path.relative_to(canaries / "out")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (canaries / "out").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert manifest["outputs"] == present
    assert {"model/model.safetensors", "run.json", "report.html"} <= present.keys()
    inputs = manifest["inputs"]
    for name in ("forget", "retain"):
        content = (canaries / f"{name}.jsonl").read_bytes()
        assert inputs[f"data.{name}"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert {"model", "data.evaluate.retain", "finetune.data.0"} <= inputs.keys()
    assert manifest["counts"]["steps"] == tiny.STEPS and manifest["seed"] == 0
    assert manifest["versions"]["jax"] and manifest["settings"]["pmc"]["schedule"]["epochs"] == 16


def test_verify_finds_every_difference(run):
    done = tiny.pmc("verify", config="out")
    assert done.status == 0 and done.lines[-1].endswith("files match the manifest")
    Path("out/model/config.json").write_text("{}")
    Path("out/loss.png").unlink()
    Path("out/note.txt").write_text("?")
    with Path("retain.jsonl").open("a") as file:
        file.write("\n")
    # The inputs of the copy are those of the run that was copied.
    manifest = json.loads(Path("out/manifest.json").read_text())
    for name, source in manifest["inputs"].items():
        source["path"] = "gone" if name == "data.forget" else Path(source["path"]).name
    Path("out/manifest.json").write_text(json.dumps(manifest))
    done = tiny.pmc("verify", config="out")
    assert done.status == 1
    for line in (
        *("missing: loss.png", "new: note.txt", "changed: model/config.json"),
        *("input missing: data.forget (gone)", "input changed: data.retain (retain.jsonl)"),
    ):
        assert line in done.lines, done.out
    assert ", and 7 differ. " in done.lines[-1]  # retain.jsonl is three inputs


def test_verify_opens_nothing_that_is_not_a_file(run):
    for name in ("run.json", "report.json", "model/config.json"):
        Path("out", name).write_text("{}")
    Path("out/loss.png").unlink()
    Path("out/loss.png").symlink_to("report.html")
    Path("out/report.html").unlink()
    os.mkfifo("out/report.html")
    os.mkfifo("out/model/pipe")
    Path("out/to nowhere\n\x1b").symlink_to("/nowhere")
    Path("out/elsewhere").symlink_to("/")
    done = tiny.pmc("verify", config="out")
    assert done.status == 1
    assert done.lines[:-2] == [
        "new: elsewhere, which is a link",
        "new: model/pipe, which is a named pipe",
        "new: to nowhere\\n\\x1b, which is a link",
        "changed: loss.png, which is a link",
        "changed: model/config.json",
        "changed: report.html, which is a named pipe",
        "changed: report.json",
        "changed: run.json",
    ]


def test_a_report_replaces_no_pipe(run):
    Path("out/report.html").unlink()
    os.mkfifo("out/report.html")
    assert "report.html: the file is not a report of pmc" in tiny.refused("report", config="out")


def test_what_is_written_again_is_in_the_manifest_again(run):
    tiny.succeed("evaluate", "evaluate.measures=multiple_choice", config="out")
    tiny.succeed("export", "--partial", config="out")
    tiny.succeed("report", "report.file=out/page.html", config="out")
    assert {"evaluation.json", "page.html", "page.json"} <= {p.name for p in Path("out").iterdir()}
    done = tiny.pmc("verify", config="out")
    assert done.status == 0, done.out
    Path("out/evaluation.json").write_text("{}")
    tiny.succeed("report", config="out")
    assert "changed: evaluation.json" in tiny.pmc("verify", config="out").lines


def test_verify_says_what_it_cannot_tell(run):
    digest = hashlib.sha256(Path("out/manifest.json").read_bytes()).hexdigest()
    lines = tiny.succeed("verify", config="out").lines
    assert lines[:-1] == [f"The SHA-256 digest of manifest.json itself is {digest}"]
    Path("out").chmod(0o755)
    lines = tiny.succeed("verify", config="out").lines
    assert lines[1] == (
        "out: other users can open the folder (mode 755). To prevent this, run: chmod go= out"
    )


def test_which_inputs_may_reveal_the_data(tmp_path):
    names = ("model", "data.forget", "data.retain", "pmc.subject.names_file", "finetune.data.0")
    inputs = {name: {"path": str(tmp_path)} for name in names}
    inputs["pmc.score.forbidden_file"] = {"path": str(tmp_path / "missing")}
    assert {*names} - {*present_inputs(inputs)} == {"data.retain"}


NO_PATH = '{"inputs": {"model": {"path": 3, "sha256": "x"}}, "outputs": {}}'


@pytest.mark.parametrize("text", [None, "", "[]", '{"inputs": {}, "outputs": 3}', "{\0", NO_PATH])
def test_a_file_that_is_not_a_manifest(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    if text is not None:
        Path("out/manifest.json").write_text(text)
    part = "Pass the folder of a finished run." if text is None else ": the file "
    tiny.assert_names(tiny.refused("verify", config="out"), "out/manifest.json", part)
