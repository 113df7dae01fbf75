"""Reads regular files of a limited size, and rejects all other files.

A pipe may never end, a device such as /dev/zero has no end, and a sparse file may be larger than
memory.
"""

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from pmc_jax.errors import UserError, reason

MAX_BYTES = 1 << 30


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading in binary mode.

    Raises:
        OSError: the file cannot be opened, or is a pipe, a device or another special file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "the path is not a regular file", os.fspath(path))
    # A pipe that replaces the file at this moment does not block either.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def read_bytes(path: str | os.PathLike, limit: int = MAX_BYTES) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: file to read.
        limit: largest number of bytes that the file may have.

    Raises:
        OSError: the file cannot be read, is not a regular file or is too large.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # The result is None for a file without data at present, such as /proc/kmsg.
        content = (b"" if size > limit else file.read(limit + 1)) or b""
    if max(size, len(content)) > limit:
        raise OSError(errno.EFBIG, f"the file has more than {limit:,} bytes", os.fspath(path))
    return content


def read_text(path: str | os.PathLike) -> str:
    """Returns the text of a regular UTF-8 file.

    Raises:
        OSError: see `read_bytes`.
        UnicodeDecodeError: the file is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")


def read_json(
    path: str | os.PathLike,
    *,
    hint: str,
    read: Callable[[str | os.PathLike], str] = read_text,
) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Args:
        path: file to read.
        hint: last sentence of the error message, which says what to do.
        read: function that returns the text of the file and raises the errors of `read_text`.

    Raises:
        UserError: the file cannot be read, or does not contain a JSON object.
    """
    try:
        content = json.loads(read(path))
    except OSError as error:
        cause = error.strerror or reason(error)
        raise UserError(f"{path}: the file cannot be read ({cause}). {hint}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: the file is not valid JSON ({reason(error)}). {hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file does not contain a JSON object. {hint}")
    return content


def check_regular(folder: Path, patterns: tuple[str, ...]) -> None:
    """Checks that the files that a library will read in a folder are regular and not too large.

    Args:
        folder: folder whose files are checked.
        patterns: patterns of the names of these files.

    Raises:
        OSError: a file is not a regular file, or has more than `MAX_BYTES` bytes.
    """
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise OSError(errno.EFBIG, f"the file has more than {MAX_BYTES:,} bytes", str(path))
