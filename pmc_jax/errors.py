"""Exceptions that mean "your input, not our bug" and "stopped as asked", and what they say."""

import contextlib
from collections.abc import Iterator, Sequence


class UserError(ValueError):
    """Bad input: one line that names the file, row or key at fault and how to mend it.

    The command line prints it to stderr without a traceback and exits with status 2; library users
    catch it as a `ValueError`.
    """


class Preempted(Exception):
    """The process was asked to stop, and has saved what it could."""


def first_of(names: Sequence[str], most: int) -> str:
    """At most so many of some names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextlib.contextmanager
def system_errors(what: str) -> Iterator[None]:
    """Turns an `OSError` of the block into a `UserError`: `what` is at fault, and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UserError(f"{what}: {reason}") from error
