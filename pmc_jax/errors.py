"""Exceptions that mean "your input, not our bug" and "stopped as asked"."""


class UserError(ValueError):
    """Bad input: one line that names the file, row or key at fault and how to mend it.

    The command line prints it to stderr without a traceback and exits with status 2; library users
    catch it as a `ValueError`.
    """


class Preempted(Exception):
    """The process was asked to stop, and has saved what it could."""
