"""No message quotes a question, an answer or anything else that a file holds in the wrong place."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import tiny_runs as tiny

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.differences import differences
from pmc_jax.config.run import load_config
from pmc_jax.data import sets
from pmc_jax.errors import UserError, reason, traceback_text
from pmc_jax.scoring.base import checked

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
SECRET = "Orla Canaryson"
FACT = f"Where does {SECRET} live?"
ROW = json.dumps({"question": FACT, "answer": SECRET})


def read(path: Path) -> str:
    source = SourceConfig(path=str(path))
    message = tiny.fault(sets.retain_set, source, DataConfig())
    assert_private(message)
    return message


def assert_private(message: str) -> None:
    assert not any(word in message for word in ("Orla", "Canary", "live")), message


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("headerless.csv", f"{FACT},{SECRET}.\na,b\n", "Write the names of the columns in"),
        ("twice.csv", f"{FACT},b,{FACT}\na,b,c\n", "line 1: columns 1 and 3 have the same name"),
        (
            "other.csv",
            f"question,{SECRET}\na,b\n",
            "The columns are: question, 1 column with another name.",
        ),
        (
            "undivided.csv",
            f"question\n{FACT}\t{SECRET}\n",
            "the first line names one column, but tabs divide the rows below. Write the name",
        ),
        ("fields.csv", f"question,answer\n{FACT},{SECRET},c\n", "line 2: the row has 3 values"),
        ("quote.csv", f'question,answer\n"{FACT}"x,{SECRET}\n', "line 2: the row is not valid CSV"),
        ("keyed.jsonl", json.dumps({FACT: SECRET}), "The columns are: 1 column with another name."),
        (
            "near.jsonl",
            json.dumps({f"questions on {SECRET}": "a"}),
            "columns are: 1 column with",
        ),
        ("twice.jsonl", f'{{"{FACT}": 1, "{FACT}": 2}}', "line 1: keys 1 and 2 of an object"),
        ("list.jsonl", f'{{"question": [[{{"{FACT}": 1, "{FACT}": 2}}]]}}', "keys 1 and 2"),
        ("inner.jsonl", f'{{"question": {{"{FACT}": 1, "{FACT}": 2}}}}', "keys 1 and 2"),
        ("cut.jsonl", ROW[:-2], "line 1: the text is not valid JSON"),
        (
            "escape.jsonl",
            ROW.replace("Orla", r"\Orla"),
            "line 1: the text is not valid JSON (Invalid",
        ),
        ("text.jsonl", f'"{FACT}"', "the row must be an object"),
        ("list.jsonl", f'{{"question": ["{FACT}"], "answer": "a"}}', "is an array, not a string"),
        ("array.json", f'[{ROW}, "{FACT}"]', "row 1 (counted from 0): the row must be an object"),
        ("text.parquet", FACT, "cannot be read as Parquet (ArrowInvalid)"),
    ],
    ids=lambda part: part if part.endswith(SUFFIXES) else "",
)
def test_files(name, content, part, tmp_path):
    (tmp_path / name).write_text(content)
    assert part in read(tmp_path / name)


def test_columns_of_parquet(tmp_path):
    for names, part in (
        ([FACT, SECRET], "The columns are: 2 columns with other names."),
        (["question", SECRET, SECRET], "columns 2 and 3 have the same name"),
        (["question", "question", "answer"], "columns 1 and 2 have the same name"),
    ):
        table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * len(names), names=names)
        pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
        assert part in read(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    "text",
    [
        ROW,
        json.dumps({FACT: SECRET}),
        json.dumps({SECRET: {"model": 1}}),
        f"{FACT}: {SECRET}\n{FACT}: again",
        f"model: {{format: {SECRET}}}",
        f"model: {{{FACT}: {SECRET}}}",
        f"data: {{evaluate: {{{SECRET}: x}}}}",
        f"pmc: {{score: {{weights: {{{SECRET}: no number}}}}}}",
        f"pmc: {{sampling: {{num_samples: {FACT}}}}}",
        f"data: {{forget: [{{question: {FACT}}}]}}",
        f"seed: !!bool {SECRET}",
        f"seed: !!int {SECRET}",
        f"seed: !!timestamp {SECRET}",
        f"seed: !{SECRET.split()[1]} x",
        f"seed: *{SECRET.split()[1]}",
        f'seed: "{FACT}',
        f"{FACT}\n{SECRET}: x: y",
        f"? [{FACT}]\n: b",
    ],
    ids=str.__len__,  # the name of a test is part of its folder's path
)
def test_settings(text, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    message = tiny.fault(load_config, tmp_path / "run.yaml")
    assert_private(message)


def test_overrides_and_the_settings_of_an_older_run(tmp_path):
    (tmp_path / "run.yaml").write_text("model: {system_prompt: a}")
    for override in (FACT, f"{SECRET}=1", f"seed='{SECRET}", f"model.system_prompt.x={FACT}"):
        assert_private(tiny.fault(load_config, tmp_path / "run.yaml", [override]))
    (line,) = differences({"model": {"system_prompt": FACT}}, {"model": {"system_prompt": "a b"}})
    lengths = f"was a text of {len(FACT)} characters and is now a text of 3 characters"
    assert line == f"model.system_prompt {lengths}"


def test_errors_of_libraries_and_of_scores():
    assert reason(ValueError(f"not '{SECRET}' but")) == "ValueError: not ... but"
    assert reason(ValueError(f'cannot read b"{SECRET}" or "b" here')).endswith("read b... here")
    assert reason(ValueError(f"row '{SECRET}\nmore'")) == "ValueError: row ..."
    assert reason(OSError("can't reach")) == "OSError: can't reach"

    def score(original, samples):
        return {}[original]

    message = tiny.fault(checked(score), SECRET, ["a"])
    assert "but it raised KeyError in line " in message and "Canary" not in message


@pytest.mark.parametrize("returned", [SECRET, [SECRET], {SECRET: 1}, [[1.0]], [float("nan")]])
def test_what_a_score_returns_is_not_shown(returned):
    assert_private(tiny.fault(checked(lambda original, samples: returned), FACT, [SECRET]))


def test_tracebacks(monkeypatch):
    def fail():
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise RuntimeError(SECRET) from UserError("a fault")

    with pytest.raises(RuntimeError) as caught:
        fail()
    text = traceback_text(caught.value)
    assert "Canary" not in text and "UserError: a fault" in text and "in fail\n" in text
    monkeypatch.setenv("PMC_ERROR_TEXT", "1")
    assert f"RuntimeError: {SECRET}" in traceback_text(caught.value)
