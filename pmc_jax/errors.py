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
    """The first `most` names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def system_errors(what: str) -> Iterator[None]:
    """Turns an `OSError` in the block into a `UserError` with `what` and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{what}: {reason}") from error
