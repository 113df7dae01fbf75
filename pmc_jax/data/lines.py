"""Reads text files, as one text or as one entry per line."""

from pathlib import Path

from pmc_jax.errors import UserError, system_errors


def read_lines(path: str | Path, where: str) -> list[str]:
    """The non-empty lines of a UTF-8 file, without outer white space.

    Args:
        where: the setting that named the file, for messages.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or has no line with text.
    """
    lines = [line.strip() for line in read_text(path, where).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{where}: {path} is empty; write one entry per line")
    return lines


def read_text(path: str | Path, where: str) -> str:
    """The text of a UTF-8 file, without its byte order mark.

    Args:
        where: the setting that named the file, for messages.

    Raises:
        UserError: the file cannot be read, or is not UTF-8.
    """
    try:
        with system_errors(f"{where}: cannot read {path}"):
            return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: {path} is not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from None
