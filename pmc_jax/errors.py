"""Exceptions for bad input and for a requested stop, and helpers for their messages."""

import contextlib
from collections.abc import Iterator, Sequence


class UserError(ValueError):
    """Bad input: one line that names the file, row or key at fault and the fix.

    The command line prints it to stderr without a traceback and exits with status 2; library users
    catch it as a `ValueError`.
    """


class Preempted(Exception):
    """The process was asked to stop and has saved its state."""


def first_of(names: Sequence[str], most: int) -> str:
    """Returns the first `most` names, separated by commas, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def system_errors(what: str, fix: str = "") -> Iterator[None]:
    """Turns an `OSError` in the block into a `UserError`.

    Args:
        what: the beginning of the message. A colon and the system's reason follow.
        fix: a sentence that says what to do, which ends the message.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{what}: {reason}. {fix}" if fix else f"{what}: {reason}") from error
