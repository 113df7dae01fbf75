"""Rows with chat messages in the commands: earlier turns reach the prompts, or the row is named."""

import json
from pathlib import Path

import pytest
import tiny_runs as tiny

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ' ' + m['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


def as_messages(row: dict[str, str], *earlier: tuple[str, str]) -> dict[str, list]:
    turns = [*earlier, ("user", row["question"]), ("assistant", row["answer"])]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    return tmp_path


def test_the_tags_format_refuses_a_system_message_by_row(inputs, caplog):
    rows = [as_messages(row) for row in tiny.FORGET]
    rows[2] = as_messages(tiny.FORGET[2], ("system", tiny.WORDS[0]))
    tiny.write_rows(inputs / "forget.jsonl", rows)
    message = tiny.refused("sample", "model.format=tags")
    assert message.startswith("forget:2: the question has a system message, which the tags format")
    assert caplog.messages == [
        "data.forget: pmc reads the questions from messages in forget.jsonl. To change this, set "
        "its question."
    ]


@pytest.mark.slow
def test_a_run_tells_conversations_with_the_same_question_apart(inputs):
    config = inputs / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": TEMPLATE}))
    one, two = (row | {"question": tiny.FORGET[0]["question"]} for row in tiny.FORGET[:2])
    earlier = [("user", tiny.WORDS[0]), ("assistant", tiny.WORDS[1])]
    rows = [as_messages(one, ("system", tiny.WORDS[2])), as_messages(two, *earlier)]
    rows += [as_messages(row, *earlier) for row in tiny.FORGET[2:]]
    tiny.write_rows(inputs / "forget.jsonl", rows)
    tiny.write_rows(inputs / "retain.jsonl", [as_messages(row, *earlier) for row in tiny.RETAIN])
    finetune = ["finetune.data=[forget.jsonl, retain.jsonl]", "finetune.epochs=60"]
    finetune += ["finetune.batch_size=14", "finetune.learning_rate=1e-2", "log.text=true"]
    tiny.succeed("unlearn", *finetune)
    # Only the turns before the question tell the model which of the two answers to give.
    first, second, *_ = sorted(tiny.log("out", "question"), key=lambda row: row["id"])
    assert (first["original"], second["original"]) == (one["answer"], two["answer"])
    assert first["question"].split("\n") == [f"system: {tiny.WORDS[2]}", f"user: {one['question']}"]
    assert tiny.results()["after"]["splits"]["forget"]["rougeL_recall"] < 0.5
