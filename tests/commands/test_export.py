"""An export names its weights, and no other weights than the result of a run become its model."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import tiny_runs as tiny

import pmc_jax
from pmc_jax.artifacts import run_folder
from pmc_jax.commands import export_job
from pmc_jax.models import export
from pmc_jax.training.trainer import Trainer


def _model() -> dict[str, str]:
    return tiny.digest(Path("out/model"))


@pytest.mark.parametrize("config", ["run.yaml", "out"])
def test_an_export_is_the_model_that_the_run_wrote(config, finished):
    before = _model()
    shutil.rmtree("out/model")
    # The settings are those of the run, whatever the file says now.
    done = tiny.pmc("export", "train.learning_rate=1.0", config=config)
    assert done.lines == ["pmc wrote out/model: the unlearned weights of step 24 of 24"]
    assert _model() == before
    assert tiny.pmc("verify", config="out").status == 0


def test_a_model_is_replaced_only_on_request(finished):
    tiny.assert_names(tiny.refused("export"), "out/model", "exists already", "--overwrite")
    before = _model()
    tiny.succeed("export", "--overwrite")
    assert _model() == before


def test_an_export_needs_no_gpu_of_the_run(finished, monkeypatch):
    own = export_job.recorded_config(Path("out"))
    own = dataclasses.replace(own, train=dataclasses.replace(own.train, attention="cudnn"))
    monkeypatch.setattr(export_job, "recorded_config", lambda folder: own)
    before = _model()
    tiny.succeed("export", "--overwrite")
    after = _model()
    assert '- `train.attention`: "cudnn"\n' in Path("out/model/README.md").read_text()
    for files in (before, after):
        del files["README.md"]  # It names the setting.
    assert after == before


def test_a_run_that_was_taught_exports_on_top_of_its_target_alone(taught, copied):
    before = _model()
    tiny.succeed("export", "--overwrite")
    assert _model() == before
    mark = Path("out/target/target.json")
    mark.write_text(mark.read_text().replace('"settings": "', '"settings": "0'))
    assert "not the model from which the run started" in tiny.refused("export", "--overwrite")
    shutil.rmtree("out/target")
    assert "out/target" in tiny.refused("export", "--overwrite")


def test_the_model_that_a_run_started_from_must_be_unchanged(finished):
    with Path("model/config.json").open("a") as file:
        file.write(" ")
    message = tiny.refused("export", "--overwrite")
    tiny.assert_names(message, "model: this is not the model from which the run in out started")


def test_a_run_without_its_last_checkpoint_has_no_model_to_export(finished):
    shutil.rmtree(f"out/checkpoints/{tiny.STEPS}")
    message = tiny.refused("export", "--overwrite")
    tiny.assert_names(message, "checkpoint of step 24", "is missing", "--partial", "model-step-23/")
    Path("out/checkpoints/23/state").rename("state")
    done = tiny.pmc("export", "--partial")
    assert done.status == 2 and "checkpoints/23: the checkpoint cannot be read" in done.err


@pytest.mark.parametrize("options", [["--overwrite"], ["--partial"]])
def test_a_purged_run_keeps_its_model(options, finished):
    tiny.succeed("unlearn", "--purge")
    message = tiny.refused("export", *options)
    tiny.assert_names(message, "has no checkpoints", "only model/ holds")
    shutil.rmtree("out/model")
    tiny.assert_names(tiny.refused("export", *options), "Repeat the run")


def test_an_unfinished_run_exports_only_a_model_that_names_its_step(inputs):
    assert "out: the folder holds no run" in tiny.refused("export")
    with tiny.crashing(Trainer, "step", 2):
        tiny.pmc("unlearn", "output.checkpoint_every=1")
    message = tiny.refused("export", "--overwrite")
    tiny.assert_names(
        message, "its newest checkpoint is at step 2 of 24", "--partial", "model-step-2/"
    )
    done = tiny.succeed("export", "--partial")
    assert done.lines[0].startswith("pmc wrote out/model-step-2: the weights of step 2 of 24")
    assert not tiny.same_weights("out/model-step-2", "model") and not Path("out/model").exists()
    lm = pmc_jax.load("out/model-step-2")
    assert len(pmc_jax.answer(lm, [tiny.FORGET[0]["question"]], max_new_tokens=4)) == 1
    # It belongs to the run, and a new run removes it.
    tiny.succeed("unlearn", "--overwrite", "pmc.schedule.epochs=0")
    assert not Path("out/model-step-2").exists()
    assert "step 0 of 0, so the weights are not unlearned" in tiny.refused("export", "--overwrite")


def test_a_model_of_a_step_is_no_fault_of_the_run(finished):
    tiny.succeed("export", "--partial")
    assert tiny.same_weights("out/model-step-24", "out/model")
    assert tiny.pmc("verify", config="out").status == 0


def test_a_folder_without_a_run_has_nothing_to_export(inputs):
    for folder in ("model", "absent"):
        assert "holds no run" in tiny.refused("export", f"output.dir={folder}")
    assert "holds no run" in tiny.refused("export", config="model")


def test_export_waits_for_no_run_and_touches_none(finished):
    """A run may be writing its checkpoints: its folder is in use."""
    before = tiny.digest(finished / "out")
    with run_folder.locked("out"):
        message = tiny.refused("export", "--overwrite")
    tiny.assert_names(message, "another process is writing to this folder")
    assert tiny.digest(finished / "out") == before


def test_an_export_that_fails_leaves_the_old_one(finished, monkeypatch):
    before = tiny.digest(finished / "out" / "model")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    done = tiny.pmc("export", "--overwrite")
    assert done.status == 2 and "No space left" in done.err
    assert tiny.digest(finished / "out" / "model") == before
    assert not list((finished / "out").glob(".*"))
