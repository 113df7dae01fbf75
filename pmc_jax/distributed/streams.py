"""Standard streams whose writes never fail.

A run continues if the reader of a pipe has ended, a disk is full or a terminal has closed.
Characters that a stream cannot show are written as escape sequences.
"""

import codecs
import errno
import io
import os
import re
import select
import sys

from pmc_jax.errors import escaped

# These errors mean that the reader has closed the pipe or the terminal, so no output is missed.
_CLOSED = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
_CURSOR = re.compile(r"(\n|\x1b\[A)+")  # tqdm writes such texts to move between bars.


class _File(io.FileIO):
    """File that stores its first error in `failure` and discards all later output."""

    failure: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            while self.failure is None:
                if (written := super().write(content)) is not None:
                    return written
                select.select([], [self], [])  # The other end has made the pipe non-blocking.
        except OSError as error:
            self.failure = error
        return len(content)


class _Stream(io.TextIOWrapper):
    def write(self, text: str) -> int:
        super().write(text if _CURSOR.fullmatch(text) else escaped(text, keep="\n\r\t"))
        return len(text)


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    characters = error.object[error.start : error.end]
    return escaped(characters, all_characters=True), error.end


codecs.register_error("pmc_escape", _escape_unencodable)


def open_stream(number: int, encoding: str | None) -> io.TextIOWrapper:
    """Opens a text stream whose writes never fail.

    Args:
        number: file descriptor to write to, which stays open when the stream is closed.
        encoding: encoding of the stream; None means UTF-8.
    """
    file = io.BufferedWriter(_File(number, "wb", closefd=False))
    return _Stream(file, encoding or "utf-8", errors="pmc_escape", line_buffering=True)


def protect() -> None:
    """Replaces stdout and stderr with streams that never fail.

    A closed descriptor is opened on /dev/null. If it stayed closed, the next file that a library
    opens would get this descriptor and receive the output.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The system chooses the lowest number that is free.
    sys.stdout = open_stream(1, getattr(sys.stdout, "encoding", None))
    sys.stderr = open_stream(2, getattr(sys.stderr, "encoding", None))


def lost_output() -> str | None:
    """Returns the text of the error that lost output on stdout, or None if no output was lost.

    Output to a closed pipe or terminal does not count as lost.
    """
    sys.stdout.flush()
    failure = sys.stdout.buffer.raw.failure
    return None if failure is None or failure.errno in _CLOSED else failure.strerror
