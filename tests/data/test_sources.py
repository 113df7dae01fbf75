"""Files, generated people and TFDS become records; every malformed input is one named fault."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import write
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import fault

from pmc_jax.config.data import DataConfig, PeopleConfig, SourceConfig
from pmc_jax.data import sets, sources
from pmc_jax.data.conversation import has_mark
from pmc_jax.data.files import read_table
from pmc_jax.data.records import EvalSet, FinetuneSet, ForgetSet, RetainSet
from pmc_jax.data.visible import is_visible
from pmc_jax.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tofu"
needs_tofu = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/tofu")

PAIRS = [
    {"question": "Who?", "answer": "Ann."},
    {"question": "Where? ", "answer": "Here,\n\nthere: 'x', \"y\""},
    {"question": "Когда?", "answer": "“Сегодня”\u2028ok"},
]


def retain_fault(folder: Path, name: str, content: str | bytes, **source) -> str:
    """The fault of a retain file with that content."""
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    config = DataConfig(root=str(folder))
    return fault(sets.retain_set, SourceConfig(path=name, **source), config)


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.csv", "r.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    write(tmp_path, name, PAIRS)
    data = DataConfig(root=str(tmp_path))
    got = sets.retain_set(SourceConfig(path=name), data)
    assert got == RetainSet(
        ids=("r:0", "r:1", "r:2"),
        questions=tuple(row["question"] for row in PAIRS),
        answers=tuple(row["answer"] for row in PAIRS),
    )
    one = sets.eval_set("retain", SourceConfig(path=name, rows="1:2"), data)
    assert one == EvalSet("retain", ("r:1",), (PAIRS[1]["question"],), (PAIRS[1]["answer"],))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_eval_sets_have_paraphrased_and_wrong_answers_where_the_source_has_them(tmp_path, suffix):
    full = [
        {**row, "paraphrased_answer": f"{row['answer']}!", "false": ["No.", "Nor that."]}
        for row in PAIRS
    ]
    write(tmp_path, f"full.{suffix}", full)
    data = DataConfig(root=str(tmp_path))
    source = SourceConfig(path=f"full.{suffix}", wrong="false", rows="1:3")
    rows = sets.eval_set("forget", source, data)
    assert rows.paraphrased == tuple(row["paraphrased_answer"] for row in full[1:])
    assert rows.wrong == (("No.", "Nor that."),) * 2
    assert rows.select([1]).wrong == (("No.", "Nor that."),)
    plain = sets.eval_set("forget", SourceConfig(path=f"full.{suffix}"), data)
    assert plain.wrong is None and plain.paraphrased is not None


@pytest.mark.parametrize("wrong", ["No.", [], [""], [1], None])
def test_wrong_answers_that_are_no_texts_are_named(tmp_path, wrong):
    write(tmp_path, "a.jsonl", [PAIRS[0] | {"perturbed_answer": ["No."]}, PAIRS[1]])
    rows = [PAIRS[0] | {"perturbed_answer": ["No."]}, PAIRS[1] | {"perturbed_answer": wrong}]
    write(tmp_path, "b.jsonl", rows)
    data = DataConfig(root=str(tmp_path))
    for name, words in (("a.jsonl", "is missing"), ("b.jsonl", "must be an array of strings")):
        message = fault(sets.eval_set, "forget", SourceConfig(path=name), data)
        assert "line 2" in message and words in message and "perturbed_answer" in message
    assert len(sets.retain_set(SourceConfig(path="b.jsonl"), data)) == 2  # not read there


def test_byte_order_mark_carriage_returns_and_blank_lines(tmp_path):
    text = '\ufeff{"question": "a", "answer": "b"}\r\n\r\n{"question": "c", "answer": "d\\r"}\r\n'
    (tmp_path / "r.jsonl").write_bytes(text.encode())
    got = sets.retain_set(SourceConfig(path="r.jsonl"), DataConfig(root=str(tmp_path)))
    assert (got.ids, got.answers) == (("r:0", "r:1"), ("b", "d\r"))
    (tmp_path / "r.csv").write_bytes("\ufeffquestion,answer\r\na,b\r\n\r\nc,d\r\n".encode())
    got = sets.retain_set(SourceConfig(path="r.csv"), DataConfig(root=str(tmp_path)))
    assert got.answers == ("b", "d")


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv", "f.parquet"])
def test_forget_set_needs_no_answer_and_looks_at_none(tmp_path, name):
    data = DataConfig(root=str(tmp_path))
    write(tmp_path, name, [{"question": "Who?"}, {"question": "Where?"}])
    got = sets.forget_set(SourceConfig(path=name), data)
    assert got == ForgetSet(ids=("f:0", "f:1"), questions=("Who?", "Where?"))
    # An answer that would be a fault anywhere else is not looked at.
    write(tmp_path, name, [{"question": "Who?", "answer": " "}])
    assert sets.forget_set(SourceConfig(path=name), data).questions == ("Who?",)
    fields = [field.name for field in dataclasses.fields(got)]
    assert fields == ["ids", "questions", "subjects"] and got.subjects is None
    assert "answer" not in read_table(tmp_path / name, ["question"]).rows[0]


def test_columns_by_name_and_absolute_path(tmp_path):
    path = write(tmp_path, "q.jsonl", [{"prompt": "a", "reply": "b", "n": 3}])
    source = SourceConfig(path=str(path), question="prompt", answer="reply")
    got = sets.retain_set(source, DataConfig(root="elsewhere"))
    assert (got.questions, got.answers) == (("a",), ("b",))
    rows = sources.read_rows(source, DataConfig(), "source", answers=False)
    assert (rows.questions, rows.answers) == (("a",), ())


def test_finetune_set_concatenates_with_unique_ids(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "r.jsonl", PAIRS)
    paths = [SourceConfig(path="a/r.jsonl"), SourceConfig(path="b/r.jsonl", rows=":1")]
    got = sets.finetune_set(paths, DataConfig(root=str(tmp_path)))
    assert got.ids == ("r:0", "r:1", "r:2", "r:0#2")
    assert got.questions[3] == got.questions[0]
    assert sets.finetune_set([], DataConfig()) == FinetuneSet((), (), ())


def test_retain_set_adds_the_rows_of_further_sources(tmp_path):
    first = SourceConfig(path=str(write(tmp_path, "a.jsonl", PAIRS)))
    more = SourceConfig(path="general:facts", rows="0:2")
    rows = sets.retain_set(first, DataConfig(retain_more=(more,)))
    assert rows.ids == ("a:0", "a:1", "a:2", "general:0", "general:1")
    missing = DataConfig(retain_more=(more, SourceConfig(path="nosuch.jsonl")))
    with pytest.raises(UserError, match=r"^data\.retain_more\.1\.path: .*nosuch"):
        sets.retain_set(first, missing)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [(None, [0, 1, 2]), ("1:", [1, 2]), (":2", [0, 1]), (":", [0, 1, 2]), ("2:3", [2])],
)
def test_rows_selects_like_a_slice(tmp_path, rows, ids):
    write(tmp_path, "r.jsonl", PAIRS)
    got = sets.retain_set(SourceConfig(path="r.jsonl", rows=rows), DataConfig(root=str(tmp_path)))
    assert got.ids == tuple(f"r:{index}" for index in ids)


@pytest.mark.parametrize("rows", ["0:4", "3:", "7:9"])
def test_rows_out_of_range_names_the_number_of_rows(tmp_path, rows):
    write(tmp_path, "r.jsonl", PAIRS)
    source = SourceConfig(path="r.jsonl", rows=rows)
    message = fault(sets.retain_set, source, DataConfig(root=str(tmp_path)))
    assert message.startswith(f"data.retain.rows: '{rows}' does not fit")
    assert "has 3 rows" in message


def test_only_selected_rows_have_their_values_checked(tmp_path):
    write(tmp_path, "r.jsonl", [*PAIRS, {"question": "", "answer": "x"}])
    data = DataConfig(root=str(tmp_path))
    assert len(sets.retain_set(SourceConfig(path="r.jsonl", rows=":3"), data)) == 3
    assert "line 4: the value in column 'question' is empty" in fault(
        sets.retain_set, SourceConfig(path="r.jsonl"), data
    )


GOOD = '{"question": "a", "answer": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "r.jsonl",
            GOOD * 2 + '{"question": "a",\n',
            "line 3: the text is not valid JSON (Expecting",
        ),
        ("r.jsonl", GOOD + "[1]\n", "line 2: the row must be an object"),
        ("r.jsonl", GOOD + "[" * 100_000 + "\n", "line 2: the text is not valid JSON"),
        ("r.jsonl", '{"n": ' + "9" * 5000 + "}\n", "line 1: the text is not valid JSON"),
        ("r.jsonl", GOOD + '{"question": "a"}\n', "line 2: the column 'answer' is missing"),
        (
            "r.jsonl",
            GOOD + '{"question": "a", "answer": 5}\n',
            "line 2: the value in column 'answer' is a num",
        ),
        (
            "r.jsonl",
            '{"question": null, "answer": "b"}',
            "line 1: the value in column 'question' is null",
        ),
        ("r.jsonl", '{"question": "a", "answer": ["b"]}', "column 'answer' is an array"),
        ("r.jsonl", '{"question": "a", "answer": "\\ud800"}', "half of a surrogate pair"),
        (
            "r.jsonl",
            '{"question": " \\n", "answer": "b"}',
            "line 1: the value in column 'question' is empty",
        ),
        (
            "r.jsonl",
            '{"question": "a", "answer": ""}',
            "line 1: the value in column 'answer' is empty",
        ),
        ("r.jsonl", "", "r.jsonl: the source has no rows"),
        ("r.jsonl", "\n \n", "r.jsonl: the source has no rows"),
        (
            "r.jsonl",
            GOOD.encode() + b"\xff\n",
            "r.jsonl, line 2: the text is not UTF-8 (byte 0xff)",
        ),
        ("r.jsonl", GOOD.encode("utf-16"), "line 1: the text is not UTF-8"),
        ("r.json", "[]", "r.json: the source has no rows"),
        ("r.json", '[{"question": "a"\n, 5]', "r.json, line 2: the text is not valid JSON"),
        (
            "r.json",
            '[{"question": "a", "answer": "b"}, 5]',
            "row 1 (counted from 0): the row must be",
        ),
        ("r.csv", "question,answer\n", "r.csv: the source has no rows"),
        ("r.csv", "", "r.csv: the source has no rows"),
        ("r.csv", "sep=;\n", "r.csv: the source has no rows"),
        ("r.csv", 'question,answer\na,"b\nc"\nd\n', "line 4: the row has 1 value, but"),
        ("r.csv", 'question,answer\na,"b', "r.csv, line 2: the row is not valid CSV"),
        ("r.csv", "question,question\na,b\n", "line 1: columns 1 and 2 have the same name"),
        ("r.csv", "question,answer\na,\n", "line 2: the value in column 'answer' is empty"),
        ("r.parquet", "nonsense", "r.parquet: the file cannot be read as Parquet"),
        ("r.parquet", "", "r.parquet: the file cannot be read as Parquet"),
        ("r.txt", "a", "r.txt: the suffix '.txt' is unknown. Use a file with one"),
        ("rows", "a", "rows: the suffix '' is unknown"),
    ],
)
def test_malformed_file(tmp_path, name, content, expected):
    message = retain_fault(tmp_path, name, content)
    assert expected in message
    assert str(tmp_path / name) in message


def test_all_faults_are_in_one_message_up_to_five(tmp_path):
    content = GOOD + '{"question": 1, "answer": ""}\n' * 4
    message = retain_fault(tmp_path, "r.jsonl", content)
    for line in (2, 3):
        assert f"line {line}: the value in column 'question' is a number, not a string" in message
        assert f"line {line}: the value in column 'answer' is empty" in message
    assert message.endswith("not a string; and 3 more. Correct these rows.")
    assert retain_fault(tmp_path, "r.jsonl", "x\n" * 5).count("not valid JSON") == 5
    assert "more" not in retain_fault(tmp_path, "r.jsonl", "x\n" * 5)


def test_absent_column_lists_what_is_there(tmp_path):
    message = retain_fault(tmp_path, "r.jsonl", GOOD, question="qestion")
    assert "the column 'qestion' does not exist. Did you mean 'question'? The columns" in message
    assert "The columns are: question, answer. Set data.retain.question and data." in message
    both = retain_fault(tmp_path, "r.jsonl", GOOD, question="qestion", answer="zzz")
    assert "'question'? The column 'zzz' does not exist. The columns are" in both
    broken = retain_fault(tmp_path, "r.csv", '"a\r\nb",c\n1,2\n')
    assert (
        "The columns are: 2 columns with other names. Write the names of the columns in" in broken
    )
    write(tmp_path, "p.parquet", PAIRS)
    source = SourceConfig(path="p.parquet", answer="answr")
    message = fault(sets.retain_set, source, DataConfig(root=str(tmp_path)))
    assert "the column 'answr' does not exist. Did you mean 'answer'?" in message


def test_parquet_values_are_named_by_row(tmp_path):
    write(tmp_path, "p.parquet", [{"question": "a", "answer": "b"}, {"question": "a"}])
    source = SourceConfig(path="p.parquet")
    message = fault(sets.retain_set, source, DataConfig(root=str(tmp_path)))
    assert (
        "p.parquet, row 1 (counted from 0): the value in column 'answer' is null, not a string"
        in message
    )


def test_missing_file_and_folder(tmp_path):
    data = DataConfig(root=str(tmp_path))
    write(tmp_path, "retain.jsonl", PAIRS)
    message = fault(sets.forget_set, SourceConfig(path="retan.jsonl"), data)
    assert message.startswith("data.forget.path: ") and "Did you mean retain.jsonl?" in message
    message = fault(sets.retain_set, SourceConfig(path="no/such.csv"), data)
    assert "does not exist" in message and f"data.root, which is '{tmp_path}'" in message
    message = fault(sets.eval_set, "retain", SourceConfig(path="forget10.jsonl"), data)
    assert message.startswith("data.evaluate.retain.path: ")
    assert "locuslab/TOFU" in message and "data.root=FOLDER" in message
    (tmp_path / "d.jsonl").mkdir()
    assert "is a folder" in fault(sets.retain_set, SourceConfig(path="d.jsonl"), data)
    assert "is a folder" in fault(sets.retain_set, SourceConfig(path="."), data)
    assert "path is not set" in fault(sets.finetune_set, [SourceConfig()], data)
    long = SourceConfig(path="x" * 5000 + ".jsonl")
    assert "cannot be accessed" in fault(sets.retain_set, long, data)


def test_official_suffix_of_a_tofu_file_is_found(tmp_path):
    (tmp_path / "forget10.json").write_text(GOOD)
    data = DataConfig(root=str(tmp_path))
    got = sets.forget_set(SourceConfig(path="forget10.jsonl"), data)
    assert got == ForgetSet(("forget10:0",), ("a",))


def test_people_have_the_same_ids_in_every_split():
    data = DataConfig(people=PeopleConfig(count=4, forget=1, questions=3))
    everyone = sets.retain_set(SourceConfig(path="people:all"), data)
    forget = sets.eval_set("forget", SourceConfig(path="people:forget"), data)
    retain = sets.retain_set(SourceConfig(path="people:retain", rows="1:3"), data)
    assert everyone.ids == tuple(f"people:{index}" for index in range(12))
    assert forget.ids == everyone.ids[:3] and forget.answers == everyone.answers[:3]
    assert retain == everyone.select([4, 5])
    source = SourceConfig(
        path="people:forget", question="paraphrased_question", answer="paraphrased_answer"
    )
    paraphrased = sets.eval_set("forget_paraphrased", source, data)
    assert paraphrased.ids == forget.ids
    assert not set(paraphrased.questions) & set(forget.questions)
    assert "one of forget, retain, all" in fault(
        sets.forget_set, SourceConfig(path="people:some"), data
    )
    source = SourceConfig(path="people:all", answer="perturbed_answer")
    assert "is an array, not a string" in fault(sets.retain_set, source, data)


@needs_tofu
def test_tofu_keeps_its_odd_rows():
    data = DataConfig(root=str(SHARED))
    full = sets.retain_set(SourceConfig(path="full.jsonl"), data)
    assert len(full) == 4000
    assert full.questions[100] == full.questions[440]
    assert full.answers[1124].endswith("\n\nLiterary Works:")
    forget = sets.forget_set(SourceConfig(path="forget10.jsonl"), data)
    assert forget.questions == full.questions[3600:]


def test_reading_imports_neither_jax_nor_tensorflow(tmp_path):
    write(tmp_path, "r.jsonl", PAIRS)
    program = (
        "import sys\n"
        "from pmc_jax.config.data import DataConfig, SourceConfig\n"
        "from pmc_jax.data import sets\n"
        f"sets.retain_set(SourceConfig(path={str(tmp_path / 'r.jsonl')!r}), DataConfig())\n"
        "heavy = {'jax', 'tensorflow', 'torch', 'tensorflow_datasets', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


_text = st.text(min_size=1, max_size=12).filter(lambda t: is_visible(t) and not has_mark(t))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(_text, _text), min_size=1, max_size=4), st.booleans())
def test_any_text_survives_json_lines(tmp_path_factory, pairs, ascii_only):
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    rows = [json.dumps({"question": q, "answer": a}, ensure_ascii=ascii_only) for q, a in pairs]
    path.write_bytes("\n".join(rows).encode())
    got = sets.retain_set(SourceConfig(path=str(path)), DataConfig())
    assert list(zip(got.questions, got.answers, strict=True)) == pairs


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["r.jsonl", "r.json", "r.csv", "r.parquet"]))
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    try:
        sets.retain_set(SourceConfig(path=str(path)), DataConfig())
    except UserError as error:
        assert "\n" not in str(error)
