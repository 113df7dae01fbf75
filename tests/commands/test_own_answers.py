"""Runs without retain data: the model's own answers are used, said and stored with the run."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from host_runs import Job

import pmc_jax
from pmc_jax.artifacts.checkpoint import Checkpoints
from pmc_jax.commands.own_answers import saved_pairs
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning import own_retain

_WORDS = tiny.WORDS
_SETTINGS = ["model.path=target", "log.text=true", "output.checkpoint_every=1"]


def _rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Returns forget rows and other rows that share no word.

    The questions of the other rows consist of words that the model does not know, like the general
    questions.
    """
    rng = np.random.default_rng(0)

    def text(words: tuple[str, ...], size: int) -> str:
        return " ".join(rng.choice(words, size))

    forget = [
        {"question": text(_WORDS[:12], 3), "answer": text(_WORDS[12:25], 4)} for _ in range(6)
    ]
    others = [
        {"question": " ".join(["what"] * (n + 2)), "answer": text(_WORDS[25:], 4)}
        for n in range(12)
    ]
    return forget, others


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tiny.Run:
    """A run without retain data that is not interrupted."""
    folder = tmp_path_factory.mktemp("own")
    pmc = {"num_samples": 3, "epochs": 3, "max_new_tokens": 8}
    tiny.write_inputs(folder, finetune=tiny.FINETUNE, pmc=pmc)
    for name, rows in zip(("forget", "retain"), _rows(), strict=True):
        tiny.write_rows(folder / f"{name}.jsonl", rows)
    evaluate = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
    with contextlib.chdir(folder):
        tiny.succeed("finetune")
        Path("out/target").rename("target")
        Path("out").rmdir()
        data = {"forget": "forget.jsonl", "evaluate": evaluate}
        tiny.write_settings(Path("run.yaml"), pmc=pmc, data=data)
        return tiny.Run(folder, tiny.succeed("unlearn", *_SETTINGS))


def test_a_line_says_what_the_retain_data_are(unbroken):
    line = next(line for line in unbroken.done.lines if line.startswith("data.retain: "))
    assert "the model's own answers to 1" in line and "general questions and to" in line
    assert not any(word in line for word in _WORDS)


def test_own_is_the_same_as_no_retain_data_and_is_purged(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    options = ["data.retain=own", "method.retain_loss=kl", "log.text=false", "output.dir=own"]
    tiny.succeed("unlearn", *_SETTINGS, *options, "--purge")
    assert tiny.same_weights("own/model", "out/model")
    answer = _rows()[1][0]["answer"].encode()
    files = [path for path in Path("own").rglob("*") if path.is_file()]
    assert files and not any(answer in path.read_bytes() for path in files)


def test_own_answers_beside_given_pairs(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    options = ["data.retain=retain.jsonl", "data.retain_more=[own]", "data.retain_test_size=0.7"]
    done = tiny.succeed("unlearn", *_SETTINGS, *options, "output.dir=beside")
    assert any("the model's own answers to 1" in line for line in done.lines)
    ids, questions, _ = _pairs("beside")
    assert ids[:12] == [f"retain:{i}" for i in range(12)]
    assert ids[12:] and all(id_.startswith("own:") for id_ in ids[12:])
    assert not {*questions[:12]} & {*questions[12:]}
    assert tiny.results("beside")["heldout"]["rows"] == 8


def test_long_given_pairs_may_be_dropped(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    long = {"question": "what is", "answer": " ".join(_WORDS[25:] * 8)}
    tiny.write_rows(Path("long.jsonl"), [long, *_rows()[1]])
    options = ["data.retain=long.jsonl", "data.retain_more=[own]", "data.max_length=64"]
    options += ["data.long_rows=drop", "pmc.schedule.epochs=1", "output.dir=dropped"]
    tiny.succeed("unlearn", *_SETTINGS, *options)


def test_the_loss_of_own_answers_may_be_their_cross_entropy(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    options = ["method.retain_loss=cross_entropy", "output.dir=answers"]
    tiny.succeed("unlearn", *_SETTINGS, *options)
    assert not tiny.same_weights("answers/model", "out/model")


def test_a_resumed_run_trains_on_the_same_answers(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    options = [*_SETTINGS, "output.dir=broken"]
    with tiny.crashing(Trainer, "step", 2):
        tiny.pmc("unlearn", *options)
    with monkeypatch.context() as patch:
        # The answers are read from the checkpoint, so the model is not asked again.
        tiny.crash(patch, own_retain, "answer_of", 0)
        tiny.succeed("unlearn", *options)
    assert tiny.same_weights("broken/model", "out/model")
    assert tiny.results("broken")["rounds"] == tiny.results("out")["rounds"]


@pytest.mark.slow
def test_two_processes_train_on_the_same_answers(unbroken, tmp_path, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    job = Job("unlearn", "run.yaml", *_SETTINGS, "output.dir=two", cache=tmp_path)
    first, second = job.ended(500)
    assert (first.status, second.status) == (0, 0), (first.err, second.err)
    assert first.out.count("data.retain: ") == 1 and "data.retain: " not in second.out
    assert _pairs("two") == _pairs("out")


def _pairs(folder: str) -> list[list[str]]:
    """Returns the retain pairs in the newest checkpoint of a run."""
    with Checkpoints(Path(folder) / "checkpoints", keep=9) as checkpoints:
        return saved_pairs(checkpoints)


def test_the_library_needs_no_retain_data_either(unbroken):
    target = pmc_jax.load(unbroken.folder / "target")
    questions = [row["question"] for row in _rows()[0]]
    result = pmc_jax.unlearn(target, questions, config=tiny.published(epochs=0, max_new_tokens=8))
    kept = {row["answer"] for row in _rows()[1]}
    assert len(result.retain) > 100 and kept & {*result.retain.answers}
    pairs = [("what", "nothing"), ("who", "nobody")]
    more = pmc_jax.unlearn(
        target,
        questions,
        pairs,
        config=tiny.published(epochs=0, max_new_tokens=8),
        data={"retain_more": ["own"]},
    )
    assert {"what", "who"} < {*more.retain.questions} and len(more.retain) > 100
    assert not {row["answer"] for row in _rows()[0]} & {*result.retain.answers}
    assert not {*questions} & {*result.retain.questions}


def test_an_own_question_that_is_too_long_is_found_before_the_run(unbroken, monkeypatch):
    monkeypatch.chdir(unbroken.folder)
    monkeypatch.setattr(TextGenerator, "prompts", _too_long)
    done = tiny.pmc("unlearn", *_SETTINGS, "output.dir=long")
    assert done.status == 2 and "own:general:0: too long" in done.said[0]
    assert not Path("long").exists()


def _too_long(self, questions, max_new_tokens, *, ids=None):
    if ids and ids[0].startswith("own:"):
        raise pmc_jax.UserError(f"{ids[0]}: too long")
    return [[1]] * len(questions)
