"""Runs in which the model abstains, or answers as for a name that it never saw."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny

from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning.admission import Admission
from pmc_jax.unlearning.pmc_source import PMCSource

OPENINGS = [f"{tiny.WORDS[40]} {tiny.WORDS[41]}", tiny.WORDS[42]]
NAMES = [row["question"].split()[0] for row in tiny.FORGET]
PMC = {"num_samples": 8, "epochs": 3, "max_new_tokens": 8, "temperature": 1.3, "max_attempts": 4}
ABSTAIN = {"answer": "abstain", "abstention": {"openings_file": "openings.txt"}}
UNSEEN = {"answer": "unseen", "subject": {"names_file": "names.txt", "invented": 2}}
KINDS = {"abstain": ABSTAIN, "unseen": UNSEEN}


def write_inputs(folder: Path, kind: str, **sections) -> None:
    output = {"dir": "out", "checkpoint_every": 1}
    tiny.write_inputs(folder, pmc=PMC | KINDS[kind], output=output, log={"text": True}, **sections)
    (folder / "openings.txt").write_text("\n".join(OPENINGS) + "\n")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")


@pytest.fixture(scope="module", autouse=True)
def lenient():
    """Admits every sample, because the tiny model speaks at random and seldom ends an answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Admission, "admitted", lambda _, index, answers, *__: np.ones(len(answers.texts), bool)
        )
        yield


@pytest.fixture(scope="module", params=KINDS)
def unbroken(request, tmp_path_factory) -> tuple[str, Path]:
    """The kind of the answers, and the output of a run that is not interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    write_inputs(folder, request.param)
    with contextlib.chdir(folder):
        tiny.succeed("unlearn")
    return request.param, folder / "out"


def test_replacements_are_the_samples_that_the_setting_asks_for(unbroken):
    kind, out = unbroken
    rows = tiny.log(out, "question")
    assert all(row["score"] == 0 for row in rows)
    assert tiny.results(out)["rounds"][-1]["unreplaced"] == 0
    for row in rows:
        if kind == "abstain":
            assert row["stored"].startswith(tuple(OPENINGS))
        else:
            assert set(row["stored"].split()) <= set(tiny.WORDS)  # no invented name


@pytest.mark.parametrize("steps", [1, 4])
def test_a_resumed_run_ends_as_one_without_a_break(steps, unbroken, tmp_path, monkeypatch):
    kind, out = unbroken
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, kind)
    with tiny.crashing(Trainer, "step", steps):
        tiny.pmc("unlearn")
    with pytest.MonkeyPatch.context() as patch:
        tiny.crash(patch, PMCSource, "_measure_knowledge", 0)
        tiny.succeed("unlearn")
    assert tiny.same_weights("out/model", out / "model")
    assert tiny.results()["rounds"] == tiny.results(out)["rounds"]
    assert tiny.log("out", "question") == tiny.log(out, "question")


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_without_an_admitted_sample_is_named_and_has_no_weight(
    kind, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, kind)
    nothing = lambda _, index, answers, *__: np.zeros(len(answers.texts), bool)  # noqa: E731
    monkeypatch.setattr(Admission, "admitted", nothing)
    tiny.succeed("unlearn", "pmc.schedule.epochs=1")
    assert "No replacement answer was found for 6 of 6 forget questions" in caplog.text
    losses = [row["collapse_loss"] for row in tiny.results()["rounds"]]
    assert losses == [0.0] * len(losses)


def test_questions_that_the_model_does_not_know_are_skipped(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "unseen")
    monkeypatch.setattr("pmc_jax.unlearning.knowledge.is_unknown", lambda *_: True)
    tiny.succeed("unlearn", "pmc.subject.unknown=skip", "pmc.schedule.epochs=1")
    assert "not to know the answers to 6 of 6" in caplog.text and "are skipped" in caplog.text
    assert tiny.results()["tokens"]["sampled"] == 0
    assert "No replacement answer" not in caplog.text


def test_a_question_without_a_subject_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "unseen")
    (tmp_path / "names.txt").write_text("\n".join(NAMES[1:]) + "\n")
    fault = tiny.refused("unlearn")
    tiny.assert_names(fault, "pmc.answer=unseen", "forget:0", "pmc.subject.names_file")
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_and_shared_answers_work_with_both(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, kind)
    tiny.succeed(
        "unlearn",
        "pmc.selection.share_answers=true",
        "pmc.augmentation.answer_prefix=0.5",
        "train.lora.rank=2",
        "train.lora.targets=[q]",
        "pmc.schedule.epochs=1",
    )
    assert Path("out/adapter").is_dir()
