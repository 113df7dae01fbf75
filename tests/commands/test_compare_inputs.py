"""What `pmc compare` refuses before anything is written, and data that change between its runs."""

import dataclasses
from pathlib import Path
from unittest import mock

import pytest
import tiny_runs as tiny
from compare_runs import write_inputs

from pmc_jax.artifacts.files import write_json
from pmc_jax.commands import compare_job, unlearn_job


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("output.dir=null", "output.dir: no folder is given"),
        ("run.data.evaluate=null", "needs forget and forget_paraphrased and one of"),
        ("run.data.retain.path=nosuch.jsonl", "nosuch.jsonl"),
        ("reference.data=nosuch.jsonl", "nosuch.jsonl"),
        ("reference={path: nosuch}", "nosuch"),
        ("methods.pmc.settings.train.learning_rate=-1", "methods.pmc.settings.train.learning_rate"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(change, part, tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    extra = ["settings={}"] if "evaluate" in change else []
    tiny.assert_names(tiny.refused("compare", change, *extra, config="compare.yaml"), part)


def test_a_folder_with_other_files_is_left_alone(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("out/mine.txt").write_text("not yours")
    for options in ([], ["--overwrite"]):
        message = tiny.refused("compare", *options, config="compare.yaml")
        assert "files that pmc compare did not write (mine.txt)" in message


def test_a_run_on_other_data_ends_the_comparison(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)

    def unlearn(config, **_):
        run = Path(config.output.dir)
        run.mkdir()
        record = {"settings": dataclasses.asdict(config), "digests": {"retain": "other"}}
        write_json(run / "run.json", record)
        write_json(run / "results.json", {})

    monkeypatch.setattr(unlearn_job, "run_unlearn", unlearn)
    monkeypatch.setattr(compare_job, "_Comparison", mock.MagicMock())
    done = tiny.pmc("compare", "run.finetune.data=[]", "reference={}", config="compare.yaml")
    assert done.status == 2 and "pmc-seed0" in done.said[-1]
    assert "the input retain has changed" in done.said[-1]
