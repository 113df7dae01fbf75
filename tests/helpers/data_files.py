"""Data files in every format that sources read."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet


def write(folder: Path, name: str, rows: list[dict]) -> Path:
    """Writes rows to a file in the format that the suffix of its name states."""
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        quoted = [['"' + value.replace('"', '""') + '"' for value in row.values()] for row in rows]
        path.write_bytes("\r\n".join(map(",".join, [list(rows[0]), *quoted])).encode())
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_bytes("\n".join(lines).encode())
    return path
