"""The output folder: what each state of it allows, and that nothing foreign is lost."""

import dataclasses
import importlib.metadata
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import crash

from pmc_jax.artifacts import run_files, run_folder
from pmc_jax.artifacts.digests import data_digest, file_digest, settings_digest
from pmc_jax.artifacts.files import write_json
from pmc_jax.config.run import Config, OutputConfig, PMCConfig
from pmc_jax.errors import UserError

DIGESTS = {"forget": "a" * 64, "model": "b" * 64}


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path_factory, monkeypatch):
    """A working folder and a home that are not above the folders of the tests."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))


def _claim(folder, *, epochs=15, digests=DIGESTS, overwrite=False, **sections):
    settings = dataclasses.asdict(Config(pmc=PMCConfig(schedule={"epochs": epochs}), **sections))
    return run_folder.claim(folder, settings=settings, digests=digests, overwrite=overwrite)


def _check(folder, *, overwrite=False, digests=DIGESTS):
    settings = dataclasses.asdict(Config(pmc=PMCConfig(schedule={"epochs": 15})))
    run_folder.check(folder, settings=settings, digests=digests, overwrite=overwrite)


def _run(folder, *, finished):
    """A run's folder with all that a run writes."""
    with _claim(folder) as claimed:
        for name in (run_files.LOG, run_files.LOSS_PLOT):
            (folder / name).write_text("x")
        for name in (
            run_files.TENSORBOARD,
            run_files.CHECKPOINTS,
            run_files.MODEL,
            run_files.TARGET,
        ):
            (folder / name).mkdir()
            (folder / name / "part").write_text("x")
        if finished:
            claimed.finish({"unlearn_quality": 99.0})
    return folder


def _contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("made_before", [False, True])
def test_new_folder_records_the_run(tmp_path, made_before):
    folder = tmp_path / "above" / "run"
    if made_before:
        folder.mkdir(parents=True)
    with _claim(folder) as claimed:
        assert not claimed.resuming
        assert claimed.path == folder
        record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "running"
    assert record["settings"]["pmc"]["schedule"]["epochs"] == 15
    assert record["digests"] == DIGESTS
    assert record["versions"]["python"].startswith("3.")
    assert record["versions"]["jax"] == importlib.metadata.version("jax")
    assert stat.S_IMODE((folder / "run.json").stat().st_mode) == 0o600
    if not made_before:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_unfinished_run_resumes_and_keeps_its_files(tmp_path):
    folder = _run(tmp_path / "run", finished=False)
    before = _contents(folder)
    with _claim(folder) as claimed:
        assert claimed.resuming
    assert _contents(folder) == before


def test_output_and_log_settings_may_differ_on_resuming(tmp_path):
    folder = _run(tmp_path / "run", finished=False)
    with _claim(folder, output=OutputConfig(dir="elsewhere", checkpoint_every=3)) as claimed:
        assert claimed.resuming


def test_other_settings_or_data_are_listed_and_refused(tmp_path):
    folder = _run(tmp_path / "run", finished=False)
    before = _contents(folder)
    with pytest.raises(UserError) as caught:
        _claim(folder, epochs=20, digests={**DIGESTS, "forget": "c" * 64})
    message = str(caught.value)
    assert "pmc.schedule.epochs was 15 and is now 20" in message
    assert f'digest of forget was "{"a" * 12}" and is now "{"c" * 12}"' in message
    assert "--overwrite" in message
    assert "\n" not in message
    assert _contents(folder) == before


def test_finished_run_is_refused_unchanged(tmp_path):
    folder = _run(tmp_path / "run", finished=True)
    before = _contents(folder)
    assert json.loads(before["run.json"])["status"] == "finished"
    assert json.loads(before["results.json"]) == {"unlearn_quality": 99.0}
    with pytest.raises(UserError, match=r"nothing was changed.*--overwrite"):
        _claim(folder)
    assert _contents(folder) == before


def test_results_are_the_last_file(tmp_path, monkeypatch):
    folder = _run(tmp_path / "run", finished=False)
    with _claim(folder) as claimed:
        crash(monkeypatch, run_folder, "write_json", 1)
        with pytest.raises(RuntimeError, match="power cut"):
            claimed.finish({"loss": 1.0})
    assert json.loads((folder / "run.json").read_text()) == claimed.finished_record
    assert not (folder / "results.json").exists()


def test_resumed_run_can_finish(tmp_path):
    folder = _run(tmp_path / "run", finished=False)
    with _claim(folder) as claimed:
        claimed.finish({"loss": 1.0})
    assert (
        json.loads((folder / "run.json").read_text())["settings"]["pmc"]["schedule"]["epochs"] == 15
    )
    with pytest.raises(UserError, match="finished run"):
        _claim(folder)


def test_foreign_files_are_named_and_refused(tmp_path):
    for name in ("notes.txt", "a.py", "z", "y"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=r"no run\.json.* \(a\.py, notes\.txt, y, \.\.\.\)"):
        _claim(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.py", "notes.txt", "y", "z"]


def test_overwrite_removes_a_run_and_leaves_the_rest(tmp_path):
    folder = _run(tmp_path / "run", finished=True)
    (folder / "notes.txt").write_text("mine")
    with _claim(folder, epochs=20, overwrite=True) as claimed:
        assert not claimed.resuming
    assert sorted(_contents(folder)) == ["notes.txt", "run.json", "target/part"]
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["settings"]["pmc"]["schedule"]["epochs"]) == ("running", 20)


def test_overwrite_writes_beside_foreign_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with _claim(tmp_path, overwrite=True):
        assert sorted(os.listdir(tmp_path)) == ["notes.txt", "run.json"]


def test_overwrite_spares_files_of_our_names_that_no_run_wrote(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("mine")
    with pytest.raises(UserError, match=r"model.*run\.json is missing"):
        _claim(tmp_path, overwrite=True)
    assert _contents(tmp_path) == {"model/weights": b"mine"}


def test_overwrite_does_not_follow_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    folder = tmp_path / "run"
    _claim(folder).close()
    (folder / "checkpoints").symlink_to(outside)
    _claim(folder, overwrite=True).close()
    assert (outside / "kept").read_text() == "mine"
    assert os.listdir(folder) == ["run.json"]


def test_overwrite_is_refused_in_shared_folders(tmp_path, monkeypatch):
    home = tmp_path / "home" / "someone"
    work = tmp_path / "work"
    for folder in (home, work):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    (tmp_path / "link").symlink_to(home)
    for folder in ("/", home, home.parent, work, ".", tmp_path / "link"):
        with pytest.raises(UserError, match="--overwrite is not allowed"):
            _claim(folder, overwrite=True)
    assert os.listdir(work) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="file: the path is a file"):
            _claim(folder)


def test_a_path_that_is_not_utf_8(tmp_path):
    for there in (False, True):
        folder = tmp_path / "o\udcff"
        if there:
            folder.mkdir()
        for call in (_check, _claim):
            with pytest.raises(UserError, match="the path is not valid UTF-8"):
                call(folder)


def test_a_place_that_cannot_be_written_is_one_line():
    with pytest.raises(UserError, match="/proc/pmc/run: the folder cannot be used"):
        _claim("/proc/pmc/run")
    with pytest.raises(UserError, match=r"/proc/pmc\.json: the file cannot be written"):
        write_json("/proc/pmc.json", {})


def test_a_check_refuses_what_a_claim_refuses_and_changes_nothing(tmp_path):
    finished = _run(tmp_path / "finished", finished=True)
    unfinished = _run(tmp_path / "unfinished", finished=False)
    (tmp_path / "file").write_text("")
    before = _contents(tmp_path)
    _check(tmp_path / "new" / "run")
    _check(finished, overwrite=True)
    _check(unfinished)
    for folder, options, message in (
        (finished, {}, "finished run, so nothing was changed"),
        (unfinished, {"digests": DIGESTS | {"model": "c"}}, "digest of model"),
        (tmp_path, {}, "contains other files"),
        (tmp_path / "file", {}, "the path is a file"),
        (Path(), {"overwrite": True}, "--overwrite is not allowed"),
    ):
        with pytest.raises(UserError, match=message):
            _check(folder, **options)
    with _claim(unfinished), pytest.raises(UserError, match="another process"):
        _check(unfinished)
    assert _contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 1, "digests": {}, "versions": {}}'])
def test_broken_record_names_overwrite(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: the file .*--overwrite"):
        _claim(tmp_path)
    _claim(tmp_path, overwrite=True).close()


def test_other_versions_are_warned_of(tmp_path, caplog):
    _claim(tmp_path).close()
    record = json.loads((tmp_path / "run.json").read_text())
    record["versions"]["jax"] = "0.0.1"
    write_json(tmp_path / "run.json", record)
    with _claim(tmp_path) as claimed:
        assert claimed.resuming
    assert 'jax was "0.0.1"' in caplog.text


def test_a_folder_in_use_is_refused_until_its_process_ends(tmp_path):
    code = (
        "import sys; from pmc_jax.artifacts import run_folder\n"
        "held = run_folder.claim(sys.argv[1], settings={}, digests={})\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process"):
            run_folder.claim(tmp_path, settings={}, digests={})
    finally:
        process.kill()
        process.communicate()
    with run_folder.claim(tmp_path, settings={}, digests={}) as claimed:
        assert claimed.resuming


def test_write_json_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"results\.json.*No space left"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["results.json"]


def test_write_json_knows_numpy_and_has_no_nan(tmp_path):
    path = tmp_path / "results.json"
    value = {"f": np.float32(0.5), "i": np.int64(3), "l": np.array([1.0, math.nan]), "n": -math.inf}
    write_json(path, {**value, "t": ("é", None, True)})
    assert json.loads(path.read_text()) == {
        "f": 0.5, "i": 3, "l": [1.0, None], "n": None, "t": ["é", None, True],
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_digests_tell_contents_apart(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Rows:
        ids: tuple[str, ...]
        questions: tuple[str, ...]

    one = data_digest(Rows(("1",), ("a", "b")))
    assert len(one) == 64
    assert one == data_digest(Rows(("1",), ("a", "b")))
    assert one != data_digest(Rows(("1",), ("ab",)))
    assert one != data_digest(Rows(("1", "a"), ("b",)))

    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # published
    file = tmp_path / "model" / "file"
    file.parent.mkdir()
    file.write_text("")
    assert file_digest(file) == empty
    before = file_digest(file.parent)
    file.rename(file.with_name("other"))
    assert file_digest(file.parent) != before
    with pytest.raises(UserError, match="missing: the file cannot be read"):
        file_digest(tmp_path / "missing")


def test_settings_digest_sees_only_what_is_computed():
    def digest(**sections):
        return settings_digest(dataclasses.asdict(Config(**sections)))

    assert digest() == digest(output=OutputConfig(dir="x"))
    assert digest() != digest(seed=1)


def test_a_folder_that_cannot_be_removed_is_named_with_its_path(tmp_path, monkeypatch):
    """`rmtree` names a file inside the folder without the path of the folder."""

    def fails(path):
        raise PermissionError(13, "Permission denied", "2")

    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(run_folder.shutil, "rmtree", fails)
    with pytest.raises(UserError, match=f"^{tmp_path}/checkpoints: the path cannot be removed"):
        run_folder.remove(tmp_path, ["checkpoints"])
