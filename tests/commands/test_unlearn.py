"""A whole run on a tiny model: what it leaves, says and keeps to itself, and its target model."""

import json
import math
from pathlib import Path

import jax
import pytest
import tiny_runs as tiny

import pmc_jax
from pmc_jax.scoring.rouge import rougeL_recall_many
from pmc_jax.training.trainer import Trainer

STAGES = {"finetune", "sample", "score", "train", "evaluate", "compile", "other"}
SPLITS = {"forget": tiny.FORGET, "forget_paraphrased": tiny.AGAIN, "retain": tiny.RETAIN}


# What a run leaves


@pytest.mark.parametrize("name", ["plain", "taught"])
def test_results_have_the_keys_that_readers_rely_on(name, request):
    run = request.getfixturevalue(name)
    found = tiny.results(run.out)
    assert set(found) == {
        *("before", "after", "seconds", "tokens", "rounds", "versions", "devices", "config"),
        *("step", "best", "total_steps", "stopped", "unlearning_seconds", "reward_moments"),
        *("words", "forgotten", "heldout"),
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
    assert set(found["tokens"]) == {"sampled", "sample_slots", "ended_early", "trained"}
    assert 0 < found["tokens"]["sampled"] <= found["tokens"]["sample_slots"]
    assert len(found["rounds"]) == tiny.STEPS
    for number, one in enumerate(found["rounds"], 1):
        assert one["step"] == number
        assert 0 <= one["mean_score"] <= 1 and 0 <= one["overlap_with_original"] <= 1
        assert 0 <= one["unreplaced"] <= len(tiny.FORGET)
        assert one["collapse_loss"] > 0 and one["retain_loss"] > 0
        if one["sampled_questions"]:  # the best of K is no worse than their mean
            assert 0 <= one["sampled_score"] <= one["score_mean"] <= 1 and one["score_std"] >= 0
    assert found["versions"]["jax"] == jax.__version__
    assert found["config"]["pmc"]["schedule"]["epochs"] == 16
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
        *("manifest.json", "report.html", "report.json", "model"),
    }
    assert (plain.out / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (events,) = (plain.out / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents") and b"retain_loss" in events.read_bytes()
    kept = sorted(int(p.name) for p in (plain.out / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [tiny.STEPS - 1, tiny.STEPS]
    assert {p.name for p in (plain.out / "model").iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "chat_template.jinja", "README.md"),
    }


def test_log_has_a_line_a_step_that_agrees_with_the_rounds(plain):
    lines, rounds = plain.log("scalars"), tiny.results(plain.out)["rounds"]
    assert [line["step"] for line in lines] == list(range(1, tiny.STEPS + 1))
    for line, one in zip(lines, rounds, strict=True):
        assert line["collapse_loss"] == pytest.approx(one["collapse_loss"], rel=1e-6)
        assert line["selected_score"] == one["mean_score"]
        assert line.get("sampled_score") == one["sampled_score"]
        assert math.isfinite(line["gradient_norm"]) and line["gradient_norm"] > 0


def test_evaluations_on_the_way_are_logged_and_change_nothing(plain, tmp_path):
    run = tiny.run(tmp_path, "evaluate.every=8")
    expected, rounds = tiny.results(plain.out)["rounds"], tiny.results(run.out)["rounds"]
    names = ("unlearn_quality", "utility")
    measured = {one["step"]: [one.pop(n) for n in names] for one in rounds if names[0] in one}
    assert list(measured) == [8, 16]  # the last step is evaluated after the run
    assert rounds == expected and tiny.same_weights(run.out / "model", plain.out / "model")
    lines = [line for line in run.log("scalars") if names[0] in line]
    assert {line["step"]: [line[n] for n in names] for line in lines} == measured
    seconds = [line["unlearning_seconds"] for line in lines]
    assert 0 < seconds[0] < seconds[1] < tiny.results(run.out)["seconds"]["total"]


def test_a_round_is_traced_where_asked_for_and_nothing_else_changes(plain, tmp_path):
    traced = tiny.run(tmp_path, "profile=true", "output.checkpoint_every=1")
    assert list((traced.out / "profile").rglob("*.xplane.pb"))
    assert {path.name for path in traced.out.iterdir()} == {
        *(path.name for path in plain.out.iterdir()),
        "profile",
    }
    assert tiny.same_weights(traced.out / "model", plain.out / "model")


def test_the_end_is_checkpointed_unless_told_otherwise(plain, tmp_path):
    run = tiny.run(tmp_path, "output.checkpoint_end=false")
    saved, none = (list((out / "checkpoints").glob("[0-9]*")) for out in (plain.out, run.out))
    assert saved and not none
    assert tiny.same_weights(run.out / "model", plain.out / "model")


def test_odd_but_good_inputs(tmp_path, monkeypatch):
    """One row a set, a byte order mark, carriage returns, a zero in a text, a question twice."""
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    Path("retain.jsonl").write_bytes(b'\xef\xbb\xbf{"question": "a", "answer": "b"}\r\n\r\n')
    Path("forget.jsonl").write_text(json.dumps({"question": "Zorbolant \0 Quaxumish"}))
    tiny.write_rows(tmp_path / "again.jsonl", [tiny.AGAIN[0]] * 2)
    options = ["data.evaluate.forget.path=again.jsonl", "pmc.schedule.epochs=3"]
    tiny.succeed("unlearn", *options)
    assert len(tiny.results()["rounds"]) == 1  # four rows a step: three epochs of one question


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
    assert rounds[-1]["unreplaced"] == 0 and rounds[-1]["sampled_questions"] == 0


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
    lines = plain.done.lines
    assert lines[0].startswith("Verdict: Forgotten questions: ") and max(map(len, lines)) <= 100
    parts = ("said: ", "sampled: not measured", "What it cost: Not measured on")
    parts += ("- Sampled answers: set evaluate.levels", "- Comparison with a model that never saw")
    starts = [next(i for i, x in enumerate(lines) if x.startswith(part)) for part in parts]
    table = [line.split() for line in lines].index(["measure", "before", "after"])
    assert starts == sorted(starts) and starts[-1] < table
    assert lines[table + 2].startswith("unlearn quality") and "total" in plain.done.out
    assert "unlearn: 100%" in plain.done.err and "%" not in plain.done.out


# Texts


def _seen_by_others(run: tiny.Run) -> dict[str, bytes]:
    out = run.out
    kept = [out / name for name in ("run.json", "results.json", "log.jsonl", "loss.png")]
    kept += (out / "tensorboard").rglob("events*")
    seen = {path.name: path.read_bytes() for path in kept}
    return seen | {"stdout": run.done.out.encode(), "stderr": run.done.err.encode()}


def _words_in(data: bytes) -> list[str]:
    return [word for word in tiny.WORDS if word.lower().encode() in data.lower()]


def test_no_text_of_data_or_model_is_kept(plain, tmp_path):
    taught_in_silence = tiny.run(tmp_path, finetune=tiny.FINETUNE)
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


def test_target_is_reused_under_the_same_settings_and_data(taught, copied):
    made = tiny.digest(copied / "out" / "target")
    again = tiny.Run(copied, tiny.succeed("unlearn", "--overwrite"))
    assert "(reused" in again.done.out and not again.log("finetune")
    assert tiny.digest(copied / "out" / "target") == made
    assert tiny.same_weights("out/model", taught.out / "model")
    assert tiny.results()["seconds"]["finetune"] == 0


def test_target_is_made_anew_from_other_data(taught, copied):
    change = ["finetune.data.1=again.jsonl", "finetune.epochs=2", "pmc.schedule.epochs=1"]
    again = tiny.Run(copied, tiny.succeed("unlearn", "--overwrite", *change))
    assert "(reused" not in again.done.out and len(again.log("finetune")) == 2
    assert not tiny.same_weights("out/target", taught.out / "target")


def test_a_target_with_other_settings_is_replaced_only_with_overwrite(copied):
    tiny.succeed("finetune", "output.dir=other")
    message = tiny.refused("unlearn", "output.dir=other", "finetune.epochs=2")
    tiny.assert_names(message, "target model with other settings", "--overwrite")


def test_what_a_target_depends_on(copied):
    before = tiny.digest(copied)
    for change in (
        *("finetune.epochs=39", "finetune.learning_rate=1e-3", "finetune.data.1=again.jsonl"),
        *("data.max_length=200", "model.system_prompt=Zorbolant", "model.path=out/target"),
        "seed=1",
    ):
        done = tiny.pmc("finetune", change)
        assert done.status == 2 and done.out == "", change
        assert (
            "a target model with other settings or data" in done.err and "--overwrite" in done.err
        )
    for change in (
        *("pmc.schedule.epochs=3", "train.learning_rate=1", "evaluate=null", "log.text=false"),
        *("data.forget.rows=0:2", "data.evaluate=null", "output.keep=1"),
    ):
        assert "(reused" in tiny.succeed("finetune", change).out, change
    assert tiny.digest(copied) == before


def test_finetune_makes_the_target_that_unlearn_reuses(taught, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune=tiny.FINETUNE))
    done = tiny.succeed("finetune")
    assert done.lines == [f"target model: {Path('out/target')}"]
    assert [path.name for path in Path("out").iterdir()] == ["target"]
    assert tiny.same_weights("out/target", taught.out / "target")
    assert "(reused" in tiny.succeed("finetune").out
    assert "(reused" in tiny.succeed("unlearn").out
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

    tiny.crash(monkeypatch, Trainer, "step", 0, AssertionError("trained in vain"))
    for command in ("finetune", "unlearn"):
        for options in ([], ["--overwrite"]):
            done = tiny.pmc(command, *options)
            assert done.status == 2 and done.err.startswith("pmc: error: "), done.err
            assert str(mine.parent) in done.err
            assert mine.read_text() == "not yours" and len(list(mine.parent.iterdir())) == 1
    assert [path.name for path in Path("out").iterdir()] == ["target"]
