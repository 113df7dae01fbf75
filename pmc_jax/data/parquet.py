"""Reads columns of a Parquet file, and rejects columns that would need too much memory.

A small file may need much memory, because a compressed page can expand a thousandfold and a
dictionary stores a repeated text only once. Sizes are therefore checked after the metadata is read,
and again before texts are copied into rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from pmc_jax.config.reading import MAX_BYTES, open_regular
from pmc_jax.errors import UserError

_MAX_VALUES = 10_000_000


def read_parquet(path: Path, columns: Sequence[str]) -> tuple[tuple[str, ...], list[dict]]:
    """Reads the names of all columns, and the values of some columns.

    Args:
        path: file to read.
        columns: names of the columns to read. Names that the file lacks are ignored.

    Returns:
        The names of all columns, and one dict per row from column name to value. There are no rows
        if a name is repeated.

    Raises:
        UserError: the file is not a Parquet file, or its columns are too large.
        OSError: the file cannot be read.
    """
    try:
        with open_regular(path) as opened:
            metadata = pyarrow.parquet.read_metadata(opened)
            leaves = [metadata.schema.column(i) for i in range(len(metadata.schema))]
            wanted = {i for i, leaf in enumerate(leaves) if leaf.path.split(".")[0] in columns}
            _check_sizes(path, metadata, wanted)
            # Repeated texts are not copied until their size is known.
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
            file = pyarrow.parquet.ParquetFile(opened, read_dictionary=texts)
            names = tuple(file.schema_arrow.names)
            if len(set(names)) < len(names):
                return names, []
            table = file.read(columns=[name for name in columns if name in names])
            if sum(_text_bytes(part) for c in table.columns for part in c.chunks) > MAX_BYTES:
                raise _too_large(path)
            return names, table.to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        # For a damaged file, pyarrow raises an OSError without `errno`.
        if getattr(error, "errno", None):
            raise
        kind = type(error).__name__
        raise UserError(
            f"{path}: the file cannot be read as Parquet ({kind}). Save the file again."
        ) from None


def _check_sizes(path: Path, metadata: Any, wanted: set[int]) -> None:
    """Raises a UserError if one of the columns with the indices `wanted` is too large."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    for index in wanted:
        chunks = [group.column(index) for group in groups]
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
        if size > MAX_BYTES or sum(chunk.num_values for chunk in chunks) > _MAX_VALUES:
            raise _too_large(path)


def _text_bytes(array: pyarrow.Array) -> int:
    """Returns the number of bytes of an array in which every row has its own copy of its text."""
    kind = array.type
    if pyarrow.types.is_struct(kind):
        return sum(map(_text_bytes, array.flatten()))
    if pyarrow.types.is_nested(kind):
        return _text_bytes(array.flatten())
    if pyarrow.types.is_dictionary(kind):
        lengths = pyarrow.compute.binary_length(array.dictionary)
        return pyarrow.compute.sum(lengths.take(array.indices)).as_py() or 0
    return array.nbytes


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{path}: the columns to read are too large. pmc reads at most {_MAX_VALUES:,} values per "
        f"column and {MAX_BYTES:,} bytes. Save only the rows that you need to a smaller file."
    )
