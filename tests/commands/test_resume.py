"""Interrupted runs end as if they had not been, and folders that are not free are left alone."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.artifacts.run_folder import OutputFolder
from pmc_jax.commands import unlearning_run
from pmc_jax.commands.target import Target
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning.stopping import ForgetTest

# Interrupted runs


# Long retain answers: their lengths, and those of the original answers, decide how rows are packed.
_LONG = {
    "pmc": {"num_samples": 3, "epochs": 3, "max_new_tokens": 40, "rule": "bradley_terry"},
    "output": {"dir": "out", "checkpoint_every": 1},
}
_LONG_RETAIN = tiny.rows(8, seed=3, question=3, answer=90)


def _long_inputs(folder: Path) -> None:
    tiny.write_inputs(folder, **_LONG)
    tiny.write_rows(folder / "retain.jsonl", _LONG_RETAIN)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The output of a run that is not interrupted, texts logged."""
    folder = tmp_path_factory.mktemp("unbroken")
    _long_inputs(folder)
    with contextlib.chdir(folder):
        tiny.succeed("unlearn", "log.text=true")
    return folder / "out"


@pytest.fixture
def long_inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _long_inputs(tmp_path)
    return tmp_path


def _assert_as_unbroken(unbroken: Path) -> None:
    assert tiny.same_weights("out/model", unbroken / "model")
    one, other = tiny.results("out"), tiny.results(unbroken)
    for key in ("before", "after", "tokens", "rounds"):
        assert one[key] == other[key], key
    for kind in ("scalars", "answer"):
        assert tiny.log("out", kind) == tiny.log(unbroken, kind)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_resumed_run_ends_as_one_without_a_break(steps, unbroken, long_inputs):
    with tiny.crashing(Trainer, "step", steps):
        tiny.pmc("unlearn", "log.text=true")
    assert not Path("out/results.json").exists() and not Path("out/model").exists()
    done = tiny.succeed("unlearn", "log.text=true")
    assert f"at step {steps} of 5" in done.lines[0]
    assert "evaluate before" not in done.err
    _assert_as_unbroken(unbroken)
    seconds = tiny.results()["seconds"]
    assert seconds["total"] == pytest.approx(sum(v for k, v in seconds.items() if k != "total"))


def test_a_run_with_focus_goes_on_within_a_round(unbroken, long_inputs, monkeypatch):
    asked = []
    monkeypatch.setattr(ForgetTest, "still_answered", lambda *_: asked.append(1) or [1])
    options = ["pmc.schedule.focus=1", "pmc.schedule.steps_per_round=2", "train.warmup_steps=1"]
    tiny.succeed("unlearn", *options, "output.dir=whole", "log.text=true")
    answered = [one["still_answered"] for one in tiny.results("whole")["rounds"]]
    assert answered == [0, 1, 1] and len(asked) == 2  # No question is asked during the warm-up.
    with tiny.crashing(Trainer, "step", 3):
        tiny.pmc("unlearn", *options, "log.text=true")
    tiny.succeed("unlearn", *options, "log.text=true")
    _assert_as_unbroken(Path("whole"))
    assert not tiny.same_weights("out/model", unbroken / "model")


def test_a_run_may_break_more_than_once(unbroken, long_inputs):
    for _ in range(2):
        with tiny.crashing(Trainer, "step", 2):
            tiny.pmc("unlearn", "log.text=true")
    tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (unlearning_run, "plot_loss"),
        (unlearning_run, "export_hf"),
        (OutputFolder, "finish"),
    ],
)
def test_a_run_that_breaks_after_its_last_step_is_only_finished(owner, name, unbroken, long_inputs):
    with tiny.crashing(owner, name, 0):
        tiny.pmc("unlearn", "log.text=true")
    with pytest.MonkeyPatch.context() as patch:
        tiny.crash(patch, Trainer, "step", 0)
        tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)


def test_a_run_that_breaks_before_its_first_checkpoint_starts_anew(unbroken, long_inputs):
    with tiny.crashing(Trainer, "step", 2):
        tiny.pmc("unlearn", "log.text=true", "output.checkpoint_every=0")
    tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)
    assert len(list(Path("out/tensorboard").iterdir())) == 1


def test_an_unreadable_checkpoint_is_passed_over(unbroken, long_inputs):
    with tiny.crashing(Trainer, "step", 3):
        tiny.pmc("unlearn", "log.text=true")
    shutil.rmtree("out/checkpoints/3/state")
    done = tiny.succeed("unlearn", "log.text=true")
    assert "at step 2 of 5" in done.lines[0]
    _assert_as_unbroken(unbroken)


def test_a_checkpoint_of_another_version_is_refused(long_inputs):
    save = Checkpoints.save

    def without_rounds(checkpoints, step, state, host):
        del host["rounds"]
        save(checkpoints, step, state, host)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", without_rounds)
        with tiny.crashing(Trainer, "step", 1):
            tiny.pmc("unlearn", "log.text=true")
    kept = sorted(Path("out/checkpoints").iterdir())
    message = tiny.refused("unlearn", "log.text=true")
    tiny.assert_names(message, "out/checkpoints/1: ", "'rounds'", "Another version")
    assert sorted(Path("out/checkpoints").iterdir()) == kept


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices(inputs, plain):
    """Samples stay the same, and losses but for rounding, which Adam amplifies over the steps."""
    with tiny.crashing(Trainer, "step", 3):
        tiny.pmc("unlearn", "output.checkpoint_every=1")
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-m", "pmc_jax.cli", "unlearn", "run.yaml", "output.checkpoint_every=1"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"at step 3 of {tiny.STEPS}" in done.stdout
    found, expected = tiny.results()["rounds"], tiny.results(plain.out)["rounds"]
    for one, other in zip(found, expected, strict=True):
        assert one["mean_score"] == other["mean_score"], one["step"]
        for loss in ("collapse_loss", "retain_loss"):
            assert one[loss] == pytest.approx(other[loss], rel=1e-5), one["step"]


def test_a_break_in_fine_tuning_leaves_no_target(tmp_path_factory, tmp_path, monkeypatch):
    whole = tiny.run(tmp_path_factory.mktemp("whole"), finetune=tiny.FINETUNE)
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE))
    with tiny.crashing(Trainer, "step", 3):
        tiny.pmc("unlearn")
    assert not Path("out/target").exists()
    tiny.succeed("unlearn")
    assert tiny.same_weights("out/target", whole.out / "target")
    assert tiny.same_weights("out/model", whole.out / "model")


def test_ctrl_c_is_one_line_and_resumes(inputs, plain, monkeypatch):
    with monkeypatch.context() as patch:
        tiny.crash(patch, Trainer, "step", 3, KeyboardInterrupt())
        done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    assert done.status == 130
    assert done.err.splitlines()[-1].startswith(
        "pmc: the command received SIGINT and stopped. Run the same command again"
    )
    assert "resumes" in tiny.succeed("unlearn", "output.checkpoint_every=1").out
    assert tiny.same_weights("out/model", plain.out / "model")


def test_another_setting_is_named_when_an_unfinished_run_is_there(inputs):
    with tiny.crashing(Trainer, "step", 1):
        tiny.pmc("unlearn", "output.checkpoint_every=1")
    before = tiny.digest(Path("out"))
    done = tiny.pmc(
        "unlearn", "output.checkpoint_every=1", "pmc.schedule.epochs=7", "train.batch_size=2"
    )
    assert done.status == 2 and len(done.err.splitlines()) == 1
    assert "pmc.schedule.epochs was 16 and is now 7" in done.err
    assert "train.batch_size was 4 and is now 2" in done.err and "--overwrite" in done.err
    tiny.write_rows(Path("retain.jsonl"), tiny.RETAIN[1:])
    done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    assert done.status == 2 and "digest of retain was" in done.err and "of forget" not in done.err
    assert tiny.digest(Path("out")) == before


def test_files_that_change_before_or_during_a_run_are_named(inputs, caplog):
    words = Path("forbidden.txt").absolute()
    words.write_text("Nobody\n")
    settings = ("pmc.score.forbidden_file=forbidden.txt", "output.checkpoint_every=1")
    settings += ("pmc.score.weights={rougeL_recall: 1, forbidden: 1}", "pmc.schedule.epochs=1")
    with tiny.crashing(Trainer, "step", 1):
        tiny.pmc("unlearn", *settings)
    words.write_text("Somebody\n")
    assert "digest of pmc.score.forbidden_file was" in tiny.pmc("unlearn", *settings).err
    words.write_text("Nobody\n")
    step = Trainer.step

    def changing(*arguments):
        words.write_text("Somebody\n")
        for path in ("forget.jsonl", "out/run.json"):  # The run writes the latter again.
            Path(path).unlink(missing_ok=True)
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", changing)
        tiny.succeed("unlearn", *settings)
    (line,) = caplog.messages
    tiny.assert_names(
        line, "changed or removed during the run", "forget.jsonl. Restore", words.name
    )
    faults = {text.split(" (")[0] for text in tiny.pmc("verify", config="out").lines[:3]}
    forgotten = {"input missing: data.forget", "input missing: data.evaluate.forget"}
    assert faults == forgotten | {"input changed: pmc.score.forbidden_file"}


# Folders that are not free


def test_a_finished_folder_is_refused_and_nothing_changes(finished):
    before = tiny.digest(finished)
    done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    assert done.status == 2 and done.out == ""
    assert done.err.startswith("pmc: error: ") and len(done.err.splitlines()) == 1
    assert "finished run" in done.err and "--overwrite" in done.err
    assert tiny.digest(finished) == before


def test_overwrite_replaces_a_run_and_keeps_the_files_of_others(finished, plain):
    Path("out/notes.txt").write_text("mine")
    Path("out/drafts").mkdir()
    Path("out/drafts/a.txt").write_text("mine too")
    tiny.succeed("unlearn", "--overwrite", "output.checkpoint_every=1", "pmc.schedule.epochs=2")
    assert Path("out/notes.txt").read_text() == "mine"
    assert Path("out/drafts/a.txt").read_text() == "mine too"
    assert len(tiny.results()["rounds"]) == 3
    assert [line["step"] for line in tiny.log("out", "scalars")] == [1, 2, 3]
    assert not tiny.same_weights("out/model", plain.out / "model")
    assert sorted(p.name for p in Path("out/checkpoints").iterdir() if p.name.isdigit()) == [
        *("2", "3")
    ]


def test_a_folder_with_foreign_files_is_refused(inputs):
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("mine")
    before = tiny.digest(inputs)
    done = tiny.pmc("unlearn")
    assert done.status == 2 and "other files (thesis.tex)" in done.err
    assert tiny.digest(inputs) == before


def test_a_target_with_a_damaged_mark_is_made_again(tmp_path):
    (tmp_path / "target.json").write_text("[" * 100_000)
    target = Target(tmp_path, None, {})
    assert not target.is_made(overwrite=True)
    assert "other settings or data" in tiny.fault(target.is_made, overwrite=False)


def test_an_evaluation_of_a_run_needs_the_rows_of_the_run(finished):
    tiny.write_rows(Path("again.jsonl"), tiny.AGAIN[::-1])
    message = tiny.refused("evaluate", config="out")
    tiny.assert_names(message, "data.evaluate.forget_paraphrased: the rows have changed", "Restore")
