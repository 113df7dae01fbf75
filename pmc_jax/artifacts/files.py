"""Writes text, JSON and binary files atomically.

Only the owner of these files may read them. JSON files contain no NaN and no
infinity, which standard JSON does not allow.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.errors import system_errors


def json_text(value: Any) -> str:
    """Returns a value as JSON text.

    Arrays become lists, array scalars become numbers and non-finite numbers become null. Bytes of
    names that are not UTF-8 are escaped, because the text must be valid UTF-8.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a value as a JSON file with mode 0600.

    Readers see either the old file or the complete new file.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, json_text(value))


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically with mode 0600.

    Raises:
        UserError: the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a binary file atomically with mode 0600.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    fix = "Check the disk and the permissions of the folder."
    with system_errors(f"{path}: the file cannot be written", fix):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def plain(value: Any) -> Any:
    """Converts a value to JSON types.

    Arrays become lists, paths become strings and non-finite numbers become None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
