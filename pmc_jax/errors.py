"""Exceptions for invalid input and for a requested stop, with helpers for their messages."""

import contextlib
from collections.abc import Iterator, Sequence


class UserError(ValueError):
    """Error for invalid input.

    The message is one line that names the file, row or setting at fault and says what to do. The
    command line prints the message to stderr without a traceback and exits with status 2. Library
    users can catch the error as a `ValueError`.
    """


class Preempted(Exception):
    """Signal that the process has received SIGTERM and has reached a point where it can resume."""


def first_of(names: Sequence[str], most: int) -> str:
    """Returns the first `most` names, separated by commas, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def system_errors(what: str, fix: str = "") -> Iterator[None]:
    """Converts an `OSError` in a `with` block to a `UserError`.

    Args:
        what: first part of the message. A colon and the reason of the system follow.
        fix: sentence at the end of the message, which says what to do.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{what}: {reason}. {fix}" if fix else f"{what}: {reason}") from error
