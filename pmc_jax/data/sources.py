"""Reads the rows of a source: a file, a tensorflow-datasets builder or data of the package.

The path of a source has one of these forms:
    FILE.jsonl | .json | .csv | .tsv | .parquet   a file, relative to data.root
    hf://datasets/OWNER/NAME[@REVISION]/FILE      a file of a dataset on the Hugging Face Hub
    tfds:tofu/forget10 | tfds:NAME/CONFIG         a tensorflow-datasets builder, read without
                                                  TensorFlow
    people:forget | retain | all | holdout        people that the settings data.people describe
    general:facts | instructions | all            general questions, the same in every run

The id of a row is "STEM:ROW". STEM is the name of the file without its suffix, the configuration of
the tfds builder (without one, its name), "people" or "general". Rows are counted from 0 in the
complete source, so ids do not depend on the selection. `files` parses the file formats, and `sets`
builds the records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pmc_jax.data import hub
from pmc_jax.data.check import check_values
from pmc_jax.data.columns import find_columns, separate_messages, usual_columns, with_added_text
from pmc_jax.data.files import Table, read_table, table_of
from pmc_jax.data.general import questions
from pmc_jax.data.people import generate
from pmc_jax.data.tofu.configs import CONFIGS, GET_TOFU, local_file
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError, about, first_of, reason

if TYPE_CHECKING:
    from pmc_jax.config.data import DataConfig, SourceConfig


class Rows(NamedTuple):
    """Selected rows of a source.

    Attributes:
        ids: id of each row.
        questions: question of each row.
        answers: answer of each row, or () if answers were not read.
        others: values of the optional columns that the source has, by the field of `SourceConfig`
            that names the column. A value is as in the source, except that a null or missing
            subject is "".
    """

    ids: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    others: dict[str, tuple[Any, ...]]

    def __repr__(self) -> str:
        """Returns the number of rows, without their texts."""
        return f"Rows({len(self.ids)} rows)"


def read_rows(
    source: SourceConfig,
    data: DataConfig,
    where: str,
    *,
    answers: bool,
    optional: Sequence[str] = (),
) -> Rows:
    """Reads the rows of a source that its settings select.

    Each question and answer must be a string with visible text or, in chat messages, several such
    strings. Values of the optional column `wrong` must be non-empty arrays of such strings, and a
    value of the optional column `subject` may be empty, null or missing.

    Args:
        source: settings with the path, the selected rows and the names of the columns.
        data: settings with the root folder of relative paths and the generated people.
        where: dotted name of the source's settings, for messages.
        answers: whether to read the answers.
        optional: fields of `SourceConfig` that name further columns, which are left out if the
            source lacks them.

    Raises:
        UserError: the path is not set, the source cannot be read or lacks a column or a selected
            row, or a value is invalid. The message is one line with the first faults.
    """
    if not source.path:
        raise UserError(
            f"{where}.path is not set. Set {where}.path to a file, hf://datasets/OWNER/NAME/FILE, "
            "tfds:NAME/CONFIG, people:SPLIT or general:SPLIT."
        )
    extra = {field: getattr(source, field) for field in optional}
    wanted = [*usual_columns(source, answers=answers), *extra.values()]
    if source.path.startswith(("people:", "general:")):
        stem, first, table = _load_packaged(source.path, data)
    elif source.path.startswith("tfds:"):
        stem, first, table = _load_tfds(source.path.removeprefix("tfds:"), data, wanted)
    else:
        path = _find_file(source.path, data, where)
        stem, first, table = path.stem, 0, read_table(path, wanted)
    selected = _select(source.rows, table, where)
    columns = find_columns(source, table, where, answers=answers)
    extra = {field: name for field, name in extra.items() if name in table.columns}
    separated, columns = separate_messages(table, columns, selected)
    check_values(
        separated,
        [*columns.names, *extra.values()],
        selected,
        lists=[extra.get("wrong")],
        empty=[extra.get("subject"), columns.added],
        conversations=[columns.question] if separated is not table else [],
        settings=[f"{where}.{field}" for field in ("question", "answer")[: 1 + answers]],
    )
    rows = [separated.rows[index] for index in selected]
    return Rows(
        tuple(f"{stem}:{first + index}" for index in selected),
        tuple(with_added_text(row, columns) for row in rows),
        tuple(row[columns.answer] for row in rows) if answers else (),
        {field: tuple(row.get(name) or "" for row in rows) for field, name in extra.items()},
    )


def file_of(source: SourceConfig, data: DataConfig, where: str) -> Path | None:
    """Returns the path to the file of a source, or None if the source is not a file.

    Raises:
        UserError: the file cannot be found.
    """
    has_scheme = source.path.startswith(("people:", "general:", "tfds:"))
    return None if has_scheme else _find_file(source.path, data, where)


def _select(rows: str | None, table: Table, where: str) -> range:
    """Returns the indices of the rows that the setting `rows` selects.

    Args:
        rows: range as "first:end", counted from 0 and without row `end`. None selects all rows.
        table: all rows of the source.
        where: dotted name of the source's settings, for messages.

    Raises:
        UserError: the range is empty or exceeds the rows of the source.
    """
    count = len(table.rows)
    first_text, _, end_text = (rows or ":").partition(":")
    first, end = int(first_text or 0), int(end_text or count)
    if first >= end or end > count:
        has = f"{count} row{'s' if count > 1 else ''}"
        raise UserError(
            f"{where}.rows: '{rows}' does not fit {table.name}, which has {has}. Use "
            f"first:end with 0 <= first < end <= {count}."
        )
    return range(first, end)


def _find_file(name: str, data: DataConfig, where: str) -> Path:
    if name.startswith(hub.SCHEME):
        with about(f"{where}.path"):
            return hub.download(name)
    try:
        path = Path(data.root).expanduser() / Path(name).expanduser()
        if not path.exists() and path.stem in CONFIGS:
            # TOFU's files end in .json on the Hugging Face Hub, but many copies end in .jsonl.
            path = local_file(path.parent, path.stem) or path
        if path.is_dir():
            raise UserError(f"{where}.path: {path} is a folder. Set the path of a file.")
        if path.exists() and not path.is_file():
            raise UserError(
                f"{where}.path: {path} is a pipe or a device. Copy the rows to a regular file."
            )
        if not path.exists():
            hint = f"{GET_TOFU}." if path.stem in CONFIGS else _file_hint(path, data)
            raise UserError(f"{where}.path: the file {path} does not exist. {hint}")
    except (OSError, RuntimeError) as error:
        # For example, the folder has no read permission, or the user in "~user" is unknown.
        raise UserError(
            f"{where}.path: the file '{name}' cannot be accessed ({reason(error)}). Check the path "
            "and the permissions of the folder."
        ) from None
    return path


def _file_hint(path: Path, data: DataConfig) -> str:
    if path.is_symlink():
        return "It is a link, and what the link names does not exist. Correct the link."
    files = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, files, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    root = f"'{data.root}'" if data.root else "the current folder"
    return f"Use the path of a file. Relative paths start in data.root, which is {root}."


# Each loader below returns the stem of the ids, the number of the first row, and the table.


def _load_packaged(path: str, data: DataConfig) -> tuple[str, int, Table]:
    name, _, split = path.partition(":")
    if name == "general":
        rows = questions.rows(split)
    else:
        rows = [dataclasses.asdict(row) for row in generate.rows(data.people, split)]
    # Rows are counted over all splits, so a row has the same id in "forget" and in "all".
    return name, int(rows[0]["id"].rpartition(":")[2]), table_of(path, rows)


def _load_tfds(name: str, data: DataConfig, columns: Sequence[str]) -> tuple[str, int, Table]:
    dataset, _, config = name.partition("/")
    tofu = dataset == "tofu"
    # Only one process prepares the data, because two processes would damage the same folder.
    builder = multihost.first_ahead(
        lambda: _tofu_builder(config, data) if tofu else _other_builder(name)
    )
    splits = list(builder.info.splits)
    split = "train" if "train" in splits or len(splits) != 1 else splits[0]
    title = f"tfds:{name}"
    if split not in splits:
        raise UserError(
            f"{title}: the builder must have a split 'train' or only one split, but its splits "
            f"are: {first_of(splits, 20) or 'none'}. Use another builder."
        )
    source = builder.as_data_source(split)
    rows = [{key: _plain(row[key]) for key in columns if key in row} for row in source]
    table = Table(title, tuple(builder.info.features), tuple(rows))
    return (config or dataset).partition(":")[0], 0, table


def _tofu_builder(config: str, data: DataConfig) -> Any:
    from pmc_jax.data.tofu.tofu import prepare

    has_file = config in CONFIGS and local_file(data.root, config) is not None
    return prepare(config, source_dir=data.root if has_file else None)


def _other_builder(name: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        if not builder.is_prepared():
            # tfds prints its progress to stdout, which is reserved for the command's results.
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare(file_format="array_record")
        builder.as_data_source()
    except Exception as error:  # A builder may raise any type.
        raise UserError(
            f"tfds:{name}: tensorflow-datasets cannot prepare this data set as array_record "
            f"({reason(error)}). Check the name and the configuration."
        ) from None
    return builder


def _plain(value: Any) -> Any:
    """Converts a value of tfds: UTF-8 bytes to a string, and an array to a list of such values.

    Bytes that are not UTF-8 stay bytes, and `check_values` reports them.
    """
    if isinstance(value, list | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value
