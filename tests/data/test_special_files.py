"""Only regular files of a limited size are data."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pmc_jax.config import reading
from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.data.lines import read_text
from pmc_jax.data.parquet import read_parquet
from pmc_jax.data.sources import read_rows
from pmc_jax.errors import UserError

HUGE = 50_000_000_000


def rows(path) -> None:
    read_rows(SourceConfig(path=str(path)), DataConfig(), "data.forget", answers=False)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_a_pipe_or_device_is_refused_without_waiting(suffix, tmp_path):
    pipe, device = tmp_path / f"pipe.{suffix}", tmp_path / f"device.{suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(UserError, match=r"data\.forget\.path: .* is a pipe or a device"):
            rows(path)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_a_sparse_file_is_refused_before_it_is_read(suffix, tmp_path):
    path = tmp_path / f"sparse.{suffix}"
    path.touch()
    os.truncate(path, HUGE)
    with pytest.raises(UserError, match=r"more than 1,073,741,824 bytes|cannot be read as Parquet"):
        rows(path)


def test_a_text_file_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="the path is not a regular file"):
        read_text(tmp_path / "pipe", "pmc.forbidden_file")


def repeated(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


def lists(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


@pytest.mark.parametrize(
    "column",
    [
        repeated("x" * 1_000_000, 2_000),
        lists(repeated("x" * 1_000_000, 2_000)),
        pa.StructArray.from_arrays([repeated("x" * 1_000_000, 2_000)], ["text"]),
        pa.nulls(11_000_000, pa.string()),
    ],
    ids=["dictionary", "list", "struct", "rows"],
)
def test_a_small_parquet_file_of_many_texts_is_refused(column, tmp_path):
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"question": column}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="Save only the rows"):
        read_parquet(path, ["question"])
    assert read_parquet(path, ["answer"])[0] == ("question",)


def test_a_damaged_parquet_file_is_named_as_such(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": ["Zorb?"]}), path)
    path.write_bytes(path.read_bytes()[:-8] + bytes(4) + b"PAR1")  # a footer without a length
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        rows(path)


def test_a_link_to_nothing(tmp_path):
    (tmp_path / "rows.jsonl").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"does not exist\. It is a link, and what"):
        rows(tmp_path / "rows.jsonl")


def test_repeated_texts_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    wrong = pa.array([["Quaxol", "Zorbum"], [], None])
    columns = {"question": repeated("Zorb?", 3), "answer": pa.array(["a", None, "b"])}
    pq.write_table(pa.table(columns | {"wrong": wrong, "number": [1, 2, 3]}), path)
    names, read = read_parquet(path, ["question", "answer", "wrong", "absent"])
    assert names == ("question", "answer", "wrong", "number")
    assert [row["question"] for row in read] == ["Zorb?"] * 3
    assert [row["answer"] for row in read] == ["a", None, "b"]
    assert [row["wrong"] for row in read] == [["Quaxol", "Zorbum"], [], None]


def test_a_file_that_grows_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "growing"
    path.write_bytes(b"12345")
    assert reading.read_bytes(path, limit=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        reading.read_bytes(path, limit=4)
