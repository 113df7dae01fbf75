"""CSV and TSV files with each delimiter keep questions and answers apart, or are refused."""

import csv
import io
from pathlib import Path

import pytest
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.data import sets
from pmc_jax.data.records import RetainSet

# Each text holds each delimiter, so only the header tells them apart.
PAIRS = (("Who, what; when | how\tmany?", "A, b; c | d."), ('Is "it" so?', "Yes;\nno, | maybe"))


def table(delimiter: str, header: tuple[str, ...], *, quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=quoting).writerows([header, *PAIRS])
    return out.getvalue()


def retain(path: Path, content: str, **columns: str) -> RetainSet:
    path.write_bytes(content.encode())
    return sets.retain_set(SourceConfig(path=path.name, **columns), DataConfig(root=path.parent))


@pytest.mark.parametrize("name", ["r.csv", "r.tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_gives_the_same_rows(delimiter, quoting, name, tmp_path):
    content = table(delimiter, ("question", "answer"), quoting=quoting)
    expected = RetainSet(("r:0", "r:1"), *zip(*PAIRS, strict=True))
    assert retain(tmp_path / name, content) == expected
    assert retain(tmp_path / name, f"\ufeff{content}") == expected
    assert retain(tmp_path / name, f"sep={delimiter}\r\n{content}") == expected


def test_the_columns_of_the_settings_decide(tmp_path):
    content = "a;question,answer\n1;x,y\n"
    assert retain(tmp_path / "r.csv", content, question="question,answer", answer="a") == RetainSet(
        ("r:0",), ("x,y",), ("1",)
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_suggestions_keep_questions_and_answers_apart(delimiter, tmp_path):
    message = fault(retain, tmp_path / "r.csv", table(delimiter, ("questions", "reply")))
    for part in (
        "the column 'question' does not exist. Did you mean 'questions'?",
        "The column 'answer' does not exist. Did you mean 'reply'?",
        "The columns are: questions, reply. Set data.retain.question and data.retain.answer to",
    ):
        assert part in message
    message = fault(retain, tmp_path / "r.csv", table(delimiter, ("completion", "id")))
    assert "'question' does not exist. The column 'answer' does not exist. Did you mean" in message


def test_rows_that_hold_more_than_their_header(tmp_path):
    def forget(content: str) -> tuple[str, ...]:
        (tmp_path / "f.csv").write_text(content)
        data = DataConfig(root=str(tmp_path))
        return sets.forget_set(SourceConfig(path="f.csv"), data).questions

    assert forget("question\nWho?\nWhere; when?\nHow?\n") == ("Who?", "Where; when?", "How?")
    assert forget('question\n"Where; when?"\n') == ("Where; when?",)
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        message = fault(forget, f"question\nWho?{delimiter}Ann.\nHow?{delimiter}So.\n")
        assert f"the first line names one column, but {name} divide the rows below" in message
    assert "2 values, but the header has 1 (quote values that contain commas)" in fault(
        forget, "question\nWho?,Ann.\n"
    )
    message = fault(retain, tmp_path / "r.csv", "question;answer\nWho?;Ann;Bob\n")
    assert "3 values, but the header has 2 (quote values that contain semicolons)" in message
    message = fault(retain, tmp_path / "r.csv", "sep=;\nquestion;answer\nWho?\n")
    assert "r.csv, line 3: the row has 1 value" in message
