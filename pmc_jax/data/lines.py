"""Reads a text file, either as one text or as a list of its lines, and the lines of stdin."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pmc_jax.config.reading import read_bytes
from pmc_jax.errors import UserError, system_errors


def read_lines(path: str | Path, where: str) -> list[str]:
    """Returns the non-empty lines of a UTF-8 file, stripped of surrounding white space.

    Args:
        path: the file to read.
        where: name of the setting that names the file, for messages.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or has no line with text.
    """
    lines = [line.strip() for line in read_text(path, where).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{where}: the file {path} has no entries. Write one entry per line.")
    return lines


def read_text(path: str | Path, where: str) -> str:
    """Returns the text of a UTF-8 file without its byte order mark.

    Args:
        path: the file to read.
        where: name of the setting that names the file, for messages.

    Raises:
        UserError: the file cannot be read or is not UTF-8.
    """
    try:
        fix = f"Set {where} to a regular text file that you may read."
        with system_errors(f"{where}: the file {path} cannot be read", fix):
            return read_bytes(os.path.expanduser(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: the file {path} is not UTF-8 at byte {error.start}. Save the file as UTF-8."
        ) from None


def stdin_lines() -> Iterator[str]:
    """Yields each line of stdin, stripped of surrounding white space.

    A byte that is not valid in the encoding of stdin becomes half of a surrogate pair, which the
    checks of questions report.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    for line in sys.stdin or ():  # A process without stdin has None in its place.
        yield line.strip()
