"""`pmc sample`: which model answers which questions, greedily unless asked otherwise."""

import io
import json

import pytest
import tiny_runs as tiny

QUESTIONS = [row["question"] for row in tiny.FORGET]


def sample(*arguments: str, config: str = "run.yaml") -> list[dict]:
    return [json.loads(line) for line in tiny.succeed("sample", *arguments, config=config).lines]


def pipe(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def test_answers_are_greedy_and_those_of_the_report(taught, monkeypatch):
    monkeypatch.chdir(taught.folder)
    before = tiny.digest(taught.folder)
    rows = sample(config="out")
    assert [row["question"] for row in rows] == QUESTIONS
    assert [row["id"] for row in rows] == [f"forget:{i}" for i in range(len(QUESTIONS))]
    logged = {row["id"]: row["after"] for row in taught.log("answer") if row["split"] == "forget"}
    assert {row["id"]: row["answers"] for row in rows} == {k: [v] for k, v in logged.items()}
    assert sample("model.path=out/model") == rows != sample("model.path=out/target")
    assert tiny.digest(taught.folder) == before


def test_samples_are_drawn_again_from_the_same_seed(inputs):
    drawn = sample("--samples", "8", "output.dir=null")
    assert all(len(row["answers"]) == 8 for row in drawn)
    assert any(len(set(row["answers"])) > 1 for row in drawn)
    again = sample("--samples", "8", "--temperature", "1")  # This is the default temperature.
    assert again == drawn != sample("--samples", "8", "seed=1")


def test_samples_as_in_training(inputs):
    rows = sample("--as-trained", "pmc.sampling.num_samples=3", "pmc.sampling.max_new_tokens=2")
    assert all(len(row["answers"]) == 3 for row in rows)
    assert max(len(text.split()) for row in rows for text in row["answers"]) == 2


def test_questions_from_sets_from_the_command_line_and_from_a_pipe(inputs, monkeypatch):
    for name, rows in (("retain", tiny.RETAIN), ("forget_paraphrased", tiny.AGAIN)):
        asked = sample("--set", name, "evaluate.max_new_tokens=1")
        assert [row["question"] for row in asked] == [row["question"] for row in rows]
    pipe(monkeypatch, f"{QUESTIONS[1]}\n\n  {QUESTIONS[2]} \n".encode())
    options = ("--question", QUESTIONS[0], "--question", "-", "evaluate.max_new_tokens=8")
    rows = sample(*options, config="model")
    assert [row["question"] for row in rows] == QUESTIONS[:3]
    assert [row["id"] for row in rows] == ["question:0", "question:1", "question:2"]
    assert [row["answers"] for row in rows] == [row["answers"] for row in sample()[:3]]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--set=nothing", ("--set nothing", "forget, retain, forget_paraphrased")),
        ("--set=retain --question=x", ("--question and --set",)),
        ("--as-trained --samples=2", ("--as-trained", "Remove")),
        ("--temperature=2", ("--temperature", "Add --samples N")),
        ("--samples=0", ("evaluate.levels.num_samples", "between 1 and 10000")),
        ("--samples=2 --temperature=0", ("evaluate.levels.temperature", "above 0")),
        ("--set=retain data.retain=own", ("--set retain: data.retain has no rows",)),
        ("--question=", ("--question", "is empty")),
    ],
)
def test_bad_arguments(arguments, parts, inputs):
    tiny.assert_names(tiny.refused("sample", *arguments.split()), *parts)


def test_bad_models(inputs, monkeypatch):
    assert "already names the model" in tiny.refused("sample", "model.path=x", config="model")
    assert "data.forget.path is not set" in tiny.refused("sample", config="model")
    (inputs / "empty").mkdir()
    assert "holds no finished run" in tiny.refused("sample", config="empty")
    pipe(monkeypatch, b"\xff\n")
    message = tiny.refused("sample", "--question", "-", config="model")
    tiny.assert_names(message, "--question", "not valid text")
