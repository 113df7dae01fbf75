"""The commands end to end on a tiny model: what they leave, refuse, resume and repeat."""

import contextlib
import json
import math
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
import tiny_runs as tiny
from jax import monitoring

import pmc_jax
from pmc_jax import jobs
from pmc_jax.checkpoint import Checkpoints
from pmc_jax.evaluation.rouge import rougeL_recall_many
from pmc_jax.output import OutputFolder
from pmc_jax.sampling import decode
from pmc_jax.tracker import read_log
from pmc_jax.unlearning import trainer as trainer_module
from pmc_jax.unlearning.trainer import Trainer

STAGES = {"finetune", "sample", "score", "train", "evaluate", "compile", "other"}
SPLITS = {"forget": tiny.FORGET, "forget_paraphrased": tiny.AGAIN, "retain": tiny.RETAIN}


class Run(NamedTuple):
    """A finished run: the folder of its inputs and of `out`, and what it said."""

    folder: Path
    done: tiny.Done

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def log(self, kind: str) -> list[dict]:
        return [row for row in read_log(self.out / "log.jsonl") if row["kind"] == kind]


def _run(folder: Path, *overrides: str, **sections) -> Run:
    tiny.write_inputs(folder, **sections)
    with contextlib.chdir(folder):
        return Run(folder, tiny.succeed("unlearn", *overrides))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Run:
    """No fine-tuning, a checkpoint a step, texts kept out of the log."""
    return _run(tmp_path_factory.mktemp("plain"), "output.checkpoint_every=1")


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Run:
    """The target model is made first; texts are logged."""
    folder = tmp_path_factory.mktemp("taught")
    return _run(folder, finetune=tiny.FINETUNE, log={"text": True})


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """A folder of inputs that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


@pytest.fixture
def finished(plain, tmp_path, monkeypatch) -> Path:
    """A copy of the plain run, the current folder."""
    folder = tmp_path / "copy"
    shutil.copytree(plain.folder, folder)
    monkeypatch.chdir(folder)
    return folder


def _crash(monkeypatch, owner, name: str, calls: int, error: BaseException | None = None):
    """Makes a function raise when it is called once more than `calls` times."""
    original, left = getattr(owner, name), [calls]

    def crashing(*args, **kwargs):
        if not left[0]:
            raise error or RuntimeError("power cut")
        left[0] -= 1
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, crashing)


@contextlib.contextmanager
def _crashing(owner, name: str, calls: int):
    """Inside, a function raises once it has been called `calls` times; the block ends with that."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        _crash(patch, owner, name, calls)
        yield


# What a run leaves


@pytest.mark.parametrize("name", ["plain", "taught"])
def test_results_have_the_keys_that_readers_rely_on(name, request):
    run = request.getfixturevalue(name)
    found = tiny.results(run.out)
    assert set(found) == {
        *("before", "after", "seconds", "tokens", "rounds", "versions", "devices", "config")
    }
    for moment in ("before", "after"):
        assert set(found[moment]) == {"unlearn_quality", "utility", "utility_splits", "splits"}
        assert set(found[moment]["splits"]) == set(SPLITS)
        recalls = {n: split["rougeL_recall"] for n, split in found[moment]["splits"].items()}
        forget, again, retain = (recalls[n] for n in SPLITS)
        assert found[moment]["unlearn_quality"] == pytest.approx(50 * (2 - forget - again))
        assert found[moment]["utility"] == pytest.approx(100 * retain)
    seconds = found["seconds"]
    assert set(seconds) == {*STAGES, "total"}
    assert min(seconds.values()) >= 0
    assert seconds["total"] == pytest.approx(sum(seconds[s] for s in STAGES))
    assert min(seconds[s] for s in ("sample", "train", "evaluate", "other")) > 0
    assert (seconds["finetune"] > 0) == (name == "taught")
    assert set(found["tokens"]) == {"sampled", "sample_slots", "trained"}
    assert 0 < found["tokens"]["sampled"] <= found["tokens"]["sample_slots"]
    assert len(found["rounds"]) == tiny.STEPS
    for number, one in enumerate(found["rounds"], 1):
        assert one["step"] == number
        assert 0 <= one["mean_score"] <= 1 and 0 <= one["overlap_with_original"] <= 1
        assert 0 <= one["unresolved"] <= len(tiny.FORGET)
        assert one["collapse_loss"] > 0 and one["retain_loss"] > 0
    assert found["versions"]["jax"] == jax.__version__
    assert found["config"]["pmc"]["epochs"] == 16
    assert found["config"] == json.loads((run.out / "run.json").read_text())["settings"]


def test_tokens_are_counted(plain):
    """Every step trains on four forget and four retain rows; a retain row is prompt and answer."""
    tokens = tiny.results(plain.out)["tokens"]
    retain = 4 + 5 + 1  # and an end; the questions share no first word that is left out
    assert tokens["trained"] >= tiny.STEPS * 4 * retain
    asked = sum(one["sampled_questions"] for one in tiny.results(plain.out)["rounds"])
    assert asked * 8 <= tokens["sampled"] <= asked * 8 * 8


def test_output_folder_holds_everything(plain):
    assert {path.name for path in plain.out.iterdir()} == {
        *("run.json", "results.json", "log.jsonl", "tensorboard", "loss.png", "checkpoints"),
        "model",
    }
    image = (plain.out / "loss.png").read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", image[16:24]) == (1200, 1000)
    (events,) = (plain.out / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents") and b"retain_loss" in events.read_bytes()
    kept = sorted(int(p.name) for p in (plain.out / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [tiny.STEPS - 1, tiny.STEPS]
    assert {p.name for p in (plain.out / "model").iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "chat_template.jinja"),
    }


def test_log_has_a_line_a_step_that_agrees_with_the_rounds(plain):
    lines, rounds = plain.log("scalars"), tiny.results(plain.out)["rounds"]
    assert [line["step"] for line in lines] == list(range(1, tiny.STEPS + 1))
    for line, one in zip(lines, rounds, strict=True):
        assert line["collapse_loss"] == pytest.approx(one["collapse_loss"], rel=1e-6)
        assert line["selected_score"] == one["mean_score"]
        assert line.get("sampled_score") == one["sampled_score"]
        assert math.isfinite(line["gradient_norm"]) and line["gradient_norm"] > 0


def test_fine_tuning_is_logged_and_learns(taught):
    lines = taught.log("finetune")
    assert [line["finetune_step"] for line in lines] == list(range(1, 41))
    assert lines[-1]["loss"] < 0.1 < 3 < lines[0]["loss"]


def test_it_forgets_what_it_was_taught_and_keeps_the_rest(taught):
    found = tiny.results(taught.out)
    before, after = found["before"], found["after"]
    assert before["splits"]["forget"]["rougeL_recall"] == 1 and before["utility"] == 100
    assert after["splits"]["forget"]["rougeL_recall"] <= 0.5
    assert after["unlearn_quality"] >= before["unlearn_quality"] + 20
    assert after["utility"] >= 85
    rounds = found["rounds"]
    assert rounds[0]["overlap_with_original"] == rounds[0]["mean_score"] > 0
    assert rounds[-1]["overlap_with_original"] == rounds[-1]["mean_score"] == 0
    assert rounds[-1]["unresolved"] == 0 and rounds[-1]["sampled_questions"] == 0


def test_exported_model_gives_the_answers_that_were_logged(taught):
    """`model/` is what was measured last, `target/` what was measured first."""
    lines = taught.log("answer")
    assert [(line["split"], line["question"], line["truth"]) for line in lines] == [
        (name, row["question"], row["answer"]) for name, rows in SPLITS.items() for row in rows
    ]
    found = tiny.results(taught.out)
    for folder, moment in (("target", "before"), ("model", "after")):
        lm = pmc_jax.load(taught.out / folder)
        answers = pmc_jax.answer(lm, [line["question"] for line in lines], max_new_tokens=8)
        assert answers == [line[moment] for line in lines]
        for name, split in found[moment]["splits"].items():
            own = [line for line in lines if line["split"] == name]
            recall = rougeL_recall_many([x["truth"] for x in own], [x[moment] for x in own]).mean()
            assert split["rougeL_recall"] == pytest.approx(recall)


def test_export_keeps_dtype_and_configuration(plain):
    source, made = plain.folder / "model", plain.out / "model"
    before, after = tiny.weights(source), tiny.weights(made)
    assert {k: (v.dtype, v.shape) for k, v in before.items()} == {
        k: (v.dtype, v.shape) for k, v in after.items()
    }
    assert not tiny.same_weights(source, made)
    old, new = (json.loads((f / "config.json").read_text()) for f in (source, made))
    assert {name: new[name] for name in old} == old


def test_final_tables_are_on_stdout_and_progress_on_stderr(plain):
    assert plain.done.lines[0].split() == ["measure", "before", "after"]
    assert plain.done.lines[2].startswith("unlearn quality")
    assert plain.done.lines[-1].startswith("total")
    assert "unlearn: 100%" in plain.done.err and "%" not in plain.done.out


# Texts


def _seen_by_others(run: Run) -> dict[str, bytes]:
    out = run.out
    kept = [out / name for name in ("run.json", "results.json", "log.jsonl", "loss.png")]
    kept += (out / "tensorboard").iterdir()
    seen = {path.name: path.read_bytes() for path in kept}
    return seen | {"stdout": run.done.out.encode(), "stderr": run.done.err.encode()}


def _words_in(data: bytes) -> list[str]:
    return [word for word in tiny.WORDS if word.lower().encode() in data.lower()]


def test_no_text_of_data_or_model_is_kept(plain, tmp_path):
    taught_in_silence = _run(tmp_path, finetune=tiny.FINETUNE)
    for run in (plain, taught_in_silence):
        for name, data in _seen_by_others(run).items():
            assert data and not _words_in(data), name
        assert {"kind", "split", "id"} == set(run.log("answer")[0])


def test_texts_are_logged_and_shown_when_asked_for(taught):
    seen = _seen_by_others(taught)
    question = tiny.FORGET[0]["question"]
    assert question in seen["stdout"].decode() and question in seen["log.jsonl"].decode()
    assert tiny.FORGET[5]["answer"] in seen["log.jsonl"].decode()
    assert not _words_in(seen["results.json"] + seen["stderr"] + seen["run.json"])


# A target model that was made before


def test_target_is_reused_under_the_same_settings_and_data(taught, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(taught.folder, folder)
    monkeypatch.chdir(folder)
    made = tiny.digest(folder / "out" / "target")
    again = Run(folder, tiny.succeed("unlearn", "--overwrite"))
    assert "made before" in again.done.out and not again.log("finetune")
    assert tiny.digest(folder / "out" / "target") == made
    assert tiny.same_weights(folder / "out" / "model", taught.out / "model")
    assert tiny.results(again.out)["seconds"]["finetune"] == 0


@pytest.mark.parametrize(
    "change",
    ["finetune.epochs=1", "seed=1", "model.system_prompt=Zorbolant", "finetune.data.1=again.jsonl"],
)
def test_target_is_made_anew_under_others(change, taught, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(taught.folder, folder)
    monkeypatch.chdir(folder)
    options = [change] if "finetune.epochs" in change else [change, "finetune.epochs=2"]
    again = Run(folder, tiny.succeed("unlearn", "--overwrite", *options, "pmc.epochs=1"))
    assert "made before" not in again.done.out and again.log("finetune")
    assert not tiny.same_weights(folder / "out" / "target", taught.out / "target")


def test_finetune_makes_the_target_that_unlearn_reuses(taught, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE))
    done = tiny.succeed("finetune")
    assert done.lines == [f"target model: {Path('out/target')}"]
    assert [path.name for path in Path("out").iterdir()] == ["target"]
    assert tiny.same_weights("out/target", taught.out / "target")
    assert "made before" in tiny.succeed("finetune").out
    assert "made before" in tiny.succeed("unlearn").out
    assert tiny.same_weights("out/model", taught.out / "model")
    refused = tiny.pmc("finetune", "finetune.epochs=2")
    assert refused.status == 2 and "--overwrite" in refused.err
    assert tiny.same_weights("out/target", taught.out / "target")
    tiny.succeed("finetune", "finetune.epochs=2", "--overwrite")
    assert not tiny.same_weights("out/target", taught.out / "target")


def test_a_folder_called_target_that_no_run_made_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE))
    mine = Path("out/target/mine.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("not yours")

    _crash(monkeypatch, Trainer, "step", 0, AssertionError("trained in vain"))
    for command in ("finetune", "unlearn"):
        for options in ([], ["--overwrite"]):
            done = tiny.pmc(command, *options)
            assert done.status == 2 and done.err.startswith("pmc: error: "), done.err
            assert str(mine.parent) in done.err
            assert mine.read_text() == "not yours" and len(list(mine.parent.iterdir())) == 1
    assert [path.name for path in Path("out").iterdir()] == ["target"]


# Interrupted runs


# Long retain answers: their lengths, and those of the original answers, decide how rows are packed.
_LONG = {
    "pmc": {"num_samples": 3, "epochs": 3, "max_new_tokens": 40, "selection": "bradley_terry"},
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
        first, second = (
            [row for row in read_log(Path(folder) / "log.jsonl") if row["kind"] == kind]
            for folder in ("out", unbroken)
        )
        assert first == second


@pytest.mark.parametrize("steps", [1, 4])
def test_a_resumed_run_ends_as_one_without_a_break(steps, unbroken, long_inputs):
    with _crashing(Trainer, "step", steps):
        tiny.pmc("unlearn", "log.text=true")
    assert not Path("out/results.json").exists() and not Path("out/model").exists()
    done = tiny.succeed("unlearn", "log.text=true")
    assert f"at step {steps} of 5" in done.lines[0]
    assert "evaluate before" not in done.err
    _assert_as_unbroken(unbroken)
    seconds = tiny.results()["seconds"]
    assert seconds["total"] == pytest.approx(sum(seconds[s] for s in STAGES))


def test_a_run_may_break_more_than_once(unbroken, long_inputs):
    for _ in range(2):
        with _crashing(Trainer, "step", 2):
            tiny.pmc("unlearn", "log.text=true")
    tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)


@pytest.mark.parametrize(
    ("owner", "name"), [(jobs, "plot_loss"), (jobs, "export_hf"), (OutputFolder, "finish")]
)
def test_a_run_that_breaks_after_its_last_step_is_only_finished(
    owner, name, unbroken, long_inputs
):
    with _crashing(owner, name, 0):
        tiny.pmc("unlearn", "log.text=true")
    with pytest.MonkeyPatch.context() as patch:
        _crash(patch, Trainer, "step", 0)
        tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)


def test_a_run_that_breaks_before_its_first_checkpoint_starts_anew(unbroken, long_inputs):
    with _crashing(Trainer, "step", 2):
        tiny.pmc("unlearn", "log.text=true", "output.checkpoint_every=0")
    tiny.succeed("unlearn", "log.text=true")
    _assert_as_unbroken(unbroken)
    assert len(list(Path("out/tensorboard").iterdir())) == 1


def test_an_unreadable_checkpoint_is_passed_over(unbroken, long_inputs):
    with _crashing(Trainer, "step", 3):
        tiny.pmc("unlearn", "log.text=true")
    shutil.rmtree("out/checkpoints/3/state")
    done = tiny.succeed("unlearn", "log.text=true")
    assert "at step 2 of 5" in done.lines[0]
    _assert_as_unbroken(unbroken)


def test_a_break_in_fine_tuning_leaves_no_target(taught, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE, log={"text": True}))
    with _crashing(Trainer, "step", 3):
        tiny.pmc("unlearn")
    assert not Path("out/target").exists()
    tiny.succeed("unlearn")
    assert tiny.same_weights("out/target", taught.out / "target")
    assert tiny.same_weights("out/model", taught.out / "model")


def test_ctrl_c_is_one_line_and_resumes(inputs, plain, monkeypatch):
    with monkeypatch.context() as patch:
        _crash(patch, Trainer, "step", 3, KeyboardInterrupt())
        done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    assert done.status == 130
    assert done.err.splitlines()[-1].startswith("pmc: interrupted; the same command goes on")
    assert "resuming" in tiny.succeed("unlearn", "output.checkpoint_every=1").out
    assert tiny.same_weights("out/model", plain.out / "model")


def test_another_setting_is_named_when_an_unfinished_run_is_there(inputs):
    with _crashing(Trainer, "step", 1):
        tiny.pmc("unlearn", "output.checkpoint_every=1")
    before = tiny.digest(Path("out"))
    done = tiny.pmc("unlearn", "output.checkpoint_every=1", "pmc.epochs=7", "train.batch_size=2")
    assert done.status == 2 and len(done.err.splitlines()) == 1
    assert "pmc.epochs: 16 there, 7 here" in done.err
    assert "train.batch_size: 4 there, 2 here" in done.err and "--overwrite" in done.err
    tiny.write_rows(Path("retain.jsonl"), tiny.RETAIN[1:])
    done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    assert done.status == 2 and "data retain: " in done.err and "data forget" not in done.err
    assert tiny.digest(Path("out")) == before


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
    tiny.succeed("unlearn", "--overwrite", "output.checkpoint_every=1", "pmc.epochs=2")
    assert Path("out/notes.txt").read_text() == "mine"
    assert Path("out/drafts/a.txt").read_text() == "mine too"
    assert len(tiny.results()["rounds"]) == 3
    steps = [r["step"] for r in read_log(Path("out/log.jsonl")) if r["kind"] == "scalars"]
    assert steps == [1, 2, 3]
    assert not tiny.same_weights("out/model", plain.out / "model")
    assert sorted(p.name for p in Path("out/checkpoints").iterdir() if p.name.isdigit()) == [
        *("2", "3")
    ]


def test_a_folder_with_foreign_files_is_refused(inputs):
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("mine")
    before = tiny.digest(inputs)
    done = tiny.pmc("unlearn")
    assert done.status == 2 and "thesis.tex" in done.err and "--overwrite" in done.err
    assert tiny.digest(inputs) == before


# The other commands


def test_evaluate_gives_the_numbers_that_the_run_gave(plain, monkeypatch):
    monkeypatch.chdir(plain.folder)
    before = tiny.digest(plain.folder)
    for path, moment in (("model", "before"), ("out/model", "after")):
        done = tiny.succeed("evaluate", f"model.path={path}")
        assert json.loads(done.lines[-1]) == tiny.results()[moment]
        assert done.lines[0].split() == ["measure", "value"]
    assert tiny.digest(plain.folder) == before


def test_evaluate_needs_something_to_measure(inputs):
    done = tiny.pmc("evaluate", "data.evaluate=null")
    assert done.status == 2 and "data.evaluate: no split is named" in done.err


def test_a_run_needs_nothing_to_evaluate(inputs):
    done = tiny.succeed("unlearn", "data.evaluate=null")
    found = tiny.results()
    assert found["before"] == found["after"]
    assert found["after"]["splits"] == {} and found["after"]["unlearn_quality"] is None
    assert len(found["rounds"]) == tiny.STEPS and done.lines[0].startswith("measure")


def test_no_epochs_leave_the_model_as_it_was(inputs):
    tiny.succeed("unlearn", "pmc.epochs=0")
    assert tiny.same_weights("out/model", "model")
    found = tiny.results()
    assert found["rounds"] == [] and found["before"] == found["after"]


def test_sample_prints_json_lines(inputs):
    before = tiny.digest(inputs)
    one = tiny.succeed("sample", "output.dir=null")
    lines = [json.loads(line) for line in one.lines]
    assert [line["question"] for line in lines] == [row["question"] for row in tiny.FORGET]
    assert [line["id"] for line in lines] == [f"forget:{i}" for i in range(len(tiny.FORGET))]
    assert all(len(line["answers"]) == 8 for line in lines)
    assert any(len(set(line["answers"])) > 1 for line in lines)
    assert tiny.succeed("sample").out == one.out
    assert tiny.succeed("sample", "seed=1").out != one.out
    assert tiny.digest(inputs) == before


def test_export_writes_the_newest_checkpoint(finished, plain):
    refused = tiny.pmc("export", "output.checkpoint_every=1")
    assert refused.status == 2 and "--overwrite" in refused.err and "out/model" in refused.err
    shutil.rmtree("out/model")
    done = tiny.succeed("export")
    assert done.lines[-1] == "wrote out/model"
    assert tiny.same_weights("out/model", plain.out / "model")
    shutil.rmtree(f"out/checkpoints/{tiny.STEPS}")
    tiny.succeed("export", "--overwrite")
    assert not tiny.same_weights("out/model", plain.out / "model")


def test_export_of_an_interrupted_run_is_its_last_step(inputs):
    with _crashing(Trainer, "step", 2):
        tiny.pmc("unlearn", "output.checkpoint_every=1", "train.max_grad_norm=1.0")
    tiny.succeed("export", "train.max_grad_norm=1.0")
    assert not tiny.same_weights("out/model", "model")
    lm = pmc_jax.load("out/model")
    with Checkpoints("out/checkpoints", keep=2) as checkpoints:
        assert checkpoints.latest() == 2
    assert len(pmc_jax.answer(lm, [tiny.FORGET[0]["question"]], max_new_tokens=4)) == 1


def test_export_without_checkpoints_converts_the_model(inputs):
    done = tiny.succeed("export", "output.dir=converted")
    assert "no checkpoints" in done.out
    assert tiny.same_weights("converted/model", "model")
    assert [path.name for path in Path("converted").iterdir()] == ["model"]


def test_export_of_a_run_that_was_taught_starts_from_its_target(taught, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(taught.folder, folder)
    monkeypatch.chdir(folder)
    tiny.succeed("export", "--overwrite")
    assert tiny.same_weights("out/model", taught.out / "model")
    shutil.rmtree("out/checkpoints")
    tiny.succeed("export", "--overwrite")
    assert tiny.same_weights("out/model", "out/target")


# Compilations

JITTED = ("prefill", "start", "compact", "decode", "train_step")


class Calls:
    """Which jitted functions were called with which shapes, and how often each was compiled."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.shapes = {name: set() for name in JITTED}
        self.compiled: list[str] = []
        for name in JITTED:
            owner = trainer_module if name == "train_step" else decode
            patch.setattr(owner, name, self._noting(name, getattr(owner, name)))
        monitoring.register_event_duration_secs_listener(self._listen)

    def _noting(self, name, function):
        def call(*args, **kwargs):
            leaves, tree = jax.tree.flatten(args)
            static = tuple(sorted((k, v) for k, v in kwargs.items() if k != "sampler"))
            shapes = tuple((x.shape, x.dtype) for x in leaves)
            self.shapes[name].add((tree, shapes, static, kwargs.get("sampler")))
            return function(*args, **kwargs)

        return call

    def _listen(self, event: str, seconds: float, **details) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.compiled.append(details["fun_name"].removeprefix("jit(").removesuffix(")"))

    def close(self) -> None:
        monitoring.unregister_event_duration_listener(self._listen)

    def count(self) -> dict[str, int]:
        return {name: self.compiled.count(name) for name in JITTED}


def test_every_shape_compiles_once_and_an_identical_run_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune={**tiny.FINETUNE, "epochs": 3}))
    options = ["pmc.max_new_tokens=20", "pmc.num_samples=5"]
    jax.clear_caches()
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        try:
            tiny.succeed("unlearn", *options)
            first = calls.count()
            assert first == {name: len(shapes) for name, shapes in calls.shapes.items()}
            assert min(first[name] for name in ("prefill", "start", "decode", "train_step")) >= 1
            # Greedy and sampled, before and after: a full group and a small one, four grids each.
            assert first["prefill"] <= 4 and first["decode"] <= 12 and first["train_step"] <= 4
            calls.compiled.clear()
            tiny.succeed("unlearn", *options, "output.dir=out2")
            assert calls.compiled == []
        finally:
            calls.close()
    assert tiny.same_weights("out/model", "out2/model")
