"""Questions and answers are found in the columns of usual formats, or an error says what to set."""

from pathlib import Path

import pytest
from data_files import write
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.data import sets
from pmc_jax.data.records import ForgetSet, RetainSet

CASES = Path(__file__).parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases")


def retain(folder: Path, rows: list[dict], *, name: str = "r.jsonl", **columns: str) -> RetainSet:
    path = write(folder, name, rows)
    return sets.retain_set(SourceConfig(path=str(path), **columns), DataConfig())


def forget(folder: Path, rows: list[dict], *, name: str = "r.jsonl", **columns: str) -> ForgetSet:
    path = write(folder, name, rows)
    return sets.forget_set(SourceConfig(path=str(path), **columns), DataConfig())


def said(caplog) -> str:
    """Returns the only line that was logged since the last call, or "" if there is none."""
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    assert len(lines) <= 1
    return "".join(lines)


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.parquet"])
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("prompt", "completion"),
        ("instruction", "output"),
        ("query", "response"),
        ("input", "output"),
    ],
)
def test_usual_columns_are_read_and_named(question, answer, name, tmp_path, caplog):
    rows = [{question: "Who?", "id": "1", answer: "Ann."}]
    got = retain(tmp_path, rows, name=name)
    assert (got.questions, got.answers) == (("Who?",), ("Ann.",))
    line = said(caplog)
    assert line == (
        f"data.retain: pmc reads the questions from {question} and the answers from {answer} in "
        f"{tmp_path / name}. To change this, set its question and answer."
    )
    assert forget(tmp_path, rows, name=name).questions == ("Who?",)
    assert f"pmc reads the questions from {question} in {tmp_path / name}." in said(caplog)


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.parquet"])
@pytest.mark.parametrize(
    ("question", "answer"),
    [("Question", "Answer"), ("PROMPT", "Completion"), ("question", "ANSWER")],
)
def test_usual_columns_may_have_capital_letters(question, answer, name, tmp_path, caplog):
    rows = [{question: "Who?", "id": "1", answer: "Ann."}]
    got = retain(tmp_path, rows, name=name)
    assert (got.questions, got.answers) == (("Who?",), ("Ann.",))
    assert f"the answers from {answer} in {tmp_path / name}." in said(caplog)
    # The usual spelling comes first.
    rows = [row | {"question": "Where?", "answer": "Here."} for row in rows]
    assert retain(tmp_path, rows, name=name).answers == ("Here.",)
    caplog.clear()


def test_instructions_with_capital_letters(tmp_path):
    rows = [{"Instruction": "Add.", "Input": "1, 2", "Output": "3"}]
    assert retain(tmp_path, rows).questions == ("Add.\n1, 2",)


def test_named_and_default_columns_are_read_without_a_word(tmp_path, caplog):
    row = {"question": "Who?", "answer": "Ann.", "prompt": "p", "completion": "c"}
    assert retain(tmp_path, [row]).answers == ("Ann.",)
    assert retain(tmp_path, [row], question="prompt", answer="completion").answers == ("c",)
    assert said(caplog) == ""
    # A column that is named is never replaced.
    other = {"prompt": "p", "completion": "c"}
    message = fault(retain, tmp_path, [other], question="question")
    assert "the column 'question' does not exist. Did you mean 'prompt'?" in message
    assert "data.retain.question" in message


@pytest.mark.parametrize(
    ("columns", "setting", "pair"),
    [
        ("paraphrase completion", {"question": "paraphrase"}, ("paraphrase", "completion")),
        ("prompt label", {"answer": "label"}, ("prompt", "label")),
        ("question response", {}, ("question", "response")),
        ("query answer", {}, ("query", "answer")),
        ("prompt query response", {}, ("query", "response")),
    ],
)
def test_one_column_may_be_named_or_usual(columns, setting, pair, tmp_path, caplog):
    rows = [{name: name for name in columns.split()}]
    got = retain(tmp_path, rows, **setting)
    assert (*got.questions, *got.answers) == pair
    assert said(caplog)
    assert forget(tmp_path, rows, **setting).questions == pair[:1]


def test_an_input_completes_its_instruction(tmp_path, caplog):
    rows = [
        {"instruction": "Translate.", "input": "chat", "output": "cat"},
        {"instruction": "Name a fruit.", "input": "", "output": "Plum."},
        {"instruction": "Name a town.", "output": "Ulm."},
    ]
    got = retain(tmp_path, rows)
    assert got.questions == ("Translate.\nchat", "Name a fruit.", "Name a town.")
    assert "the questions from instruction and input and the answers from output" in said(caplog)
    rows[0]["input"] = 5
    assert "line 1: the value in column 'input' is a number" in fault(retain, tmp_path, rows)
    rows[0]["input"] = "chat"
    assert retain(tmp_path, rows, question="instruction").questions[0] == "Translate."


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        ("prompt completion query response", "(prompt and completion; query and response)"),
        ("prompt completion messages", "(prompt and completion; messages)"),
        ("question output response", "(question and output; question and response)"),
    ],
)
def test_several_formats_are_an_error(columns, pairs, tmp_path):
    message = fault(retain, tmp_path, [dict.fromkeys(columns.split(), "a")])
    assert f"several columns may hold the rows of data.retain {pairs}. Set " in message
    assert "data.retain.question and data.retain.answer to the columns to read" in message
    message = fault(forget, tmp_path, [{"prompt": "a", "query": "a"}])
    assert "(prompt; query). Set data.forget.question to the column to read." in message


def test_no_format_fits(tmp_path):
    message = fault(retain, tmp_path, [{"text": "a", "Orla": "b"}])
    assert "the column 'question' does not exist. The column 'answer' does not exist." in message
    assert "The columns are: text, 1 column with another name. Set data.retain.question" in message
    assert "Orla" not in message
    message = fault(retain, tmp_path, [{"prompt": "a"}])
    assert "The columns are: prompt." in message


@needs_cases
def test_a_file_with_semicolons_and_a_file_without_a_header(caplog):
    got = sets.retain_set(SourceConfig(path=str(CASES / "semicolon.csv")), DataConfig())
    assert len(got) == 4 and got.answers[2] == "She was born on 4 March 1981."
    assert "from prompt and the answers from completion" in said(caplog)
    source = SourceConfig(path=str(CASES / "headerless.csv"))
    message = fault(sets.retain_set, source, DataConfig())
    assert "Write the names of the columns in the first line." in message
    assert "Orla" not in message
