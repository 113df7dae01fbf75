"""Reads and writes the files of a run: private, written atomically, strict JSON."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.errors import UserError, system_errors


def json_text(value: Any) -> str:
    """The JSON text of a value, for a file of a run.

    Arrays and their scalars become lists and numbers; a non-finite number becomes null.
    """
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: str | Path, *, hint: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        hint: the fix for a file that cannot be read, for the message.

    Raises:
        UserError: the file cannot be read, or is not a JSON object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}") from error
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; {hint}")
    return content


def write_json(path: str | Path, value: Any) -> None:
    """Writes `json_text` so that readers see either the old or the complete new file; mode 0600.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, json_text(value))


def write_text(path: str | Path, text: str) -> None:
    """Writes a text as `write_json` does.

    Raises:
        UserError: the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file as `write_json` does.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    with system_errors(f"{path}: cannot write this file"):
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
    """The value as strict JSON: arrays to lists, paths to strings, non-finite numbers to None."""
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
