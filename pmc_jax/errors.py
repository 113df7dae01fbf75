"""Exceptions for invalid input and for termination by a signal, and formatting of messages."""

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

# These characters are control characters, separators of lines, marks of the writing direction and
# bytes of names that are not UTF-8.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ANY = re.compile(".", re.DOTALL)


_FIXES = {
    errno.EACCES: "Check the permissions of this path and of its folders",
    errno.EPERM: "Check the permissions of this path and of its folders",
    errno.ENOENT: "Check whether the path was removed or moved",
    errno.ENOSPC: "Free space on the disk",
    errno.EDQUOT: "Free space within your quota",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Close other programs",
}


class UserError(ValueError):
    """Error for invalid input.

    The message is one line that names the file, row or setting at fault and says what to do. The
    command line prints the message to stderr without a traceback and exits with status 2. Library
    users can catch the error as a `ValueError`. Line breaks and other control characters, which the
    name of a file may contain, are escaped.

    Example:
        >>> try:
        ...     pmc.TrainConfig(learning_rate=-1)
        ... except pmc.UserError as error:
        ...     print(error)
        TrainConfig: learning_rate: the value must be a number above 0, but it is -1.0.
    """

    def __init__(self, message: object):
        super().__init__(escaped(str(message)))


def at_once(check: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Calls a check, whose `UserError` ends the command, and returns the result of the call."""
    return check(*arguments, **keywords)


class Faults:
    """Collects the messages of checks that fail.

    Attributes:
        messages: the messages in the order of the checks, without repetitions.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def attempt(self, check: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Calls a check and returns its result, or collects its message and returns None.

        An error of the machine that is no `UserError`, such as a lack of memory, is also collected.
        """
        try:
            return check(*arguments, **keywords)
        except Exception as error:
            fault = error if isinstance(error, UserError) else fault_of_machine(error)
            if fault is None:
                raise
            if str(fault) not in self.messages:
                self.messages.append(str(fault))
        return None


class Stopped(BaseException):
    """Exception that ends a command after a signal if the command has no state to save.

    Args:
        number: number of the signal.

    Attributes:
        status: exit status, 130 after SIGINT and 75 (temporary failure) after any other signal.
        line: message for stderr.
    """

    def __init__(self, number: int = signal.SIGTERM):
        super().__init__(number)
        self.status = 130 if number == signal.SIGINT else 75
        self.line = self._line(signal.Signals(number).name)

    def _line(self, name: str) -> str:
        return f"pmc: the command received {name} and stopped. Run the same command again."


class Preempted(Stopped):
    """Exception that ends a run after a signal, at a point from which the run can resume."""

    def _line(self, name: str) -> str:
        return (
            f"pmc: the run received {name} and stopped. Run the same command again to resume it "
            "from its checkpoint."
        )


def escaped(text: str, *, keep: str = "", all_characters: bool = False) -> str:
    """Returns a text in which control characters are escaped as in JSON, such as "\\u001b".

    Control characters could move the cursor of a terminal or hide parts of a message.

    Args:
        text: text of any characters.
        keep: control characters that are not escaped.
        all_characters: whether to escape all characters.
    """

    def escape(match: re.Match) -> str:
        if match[0] in keep:
            return match[0]
        units = match[0].encode("utf-16-be", "surrogatepass")
        pairs = zip(units[::2], units[1::2], strict=True)
        return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs)

    return (_ANY if all_characters else _CONTROL).sub(escape, text)


def first_of(names: Sequence[str], most: int) -> str:
    """Returns the first `most` names, separated by commas; "..." stands for further names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def reason(error: BaseException) -> str:
    """Returns the type of a library's error and at most 160 characters of its first line.

    Quoted parts are replaced by "...", because a library may quote private text from its input.
    """
    text = (str(error).strip().splitlines() or [""])[0]
    text = re.sub(r"(?<!\w\w)(['\"`])(.*\1|.*)", "...", text)[:160].strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def public_text(error: BaseException) -> str:
    """Returns the type of an unexpected error, and the text if it cannot quote the data.

    The text is included for invalid input, for an error of the operating system, and for an error
    of the JAX runtime, which receives no texts. The text is always included if the environment
    variable `PMC_ERROR_TEXT` is 1.
    """
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    if isinstance(error, UserError) or name == "JaxRuntimeError" or _shows_texts():
        return f"{name}: {error}"
    return name


def traceback_text(error: BaseException) -> str:
    """Returns the tracebacks of an error and its causes, each with its `public_text`."""
    parts = []
    link: BaseException | None = error
    while link is not None:
        frames = "".join(traceback.format_tb(link.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{public_text(link)}")
        context = None if link.__suppress_context__ else link.__context__
        link = link.__cause__ or context
    text = "\n\nThis error led to the next error:\n\n".join(reversed(parts))
    hint = (
        "The texts of errors are hidden, because they may quote the data. Set PMC_ERROR_TEXT=1 "
        "to show the texts."
    )
    return text if _shows_texts() else f"{text}\n{hint}"


def fault_of_machine(error: BaseException) -> UserError | None:
    """Returns a `UserError` for an error of the operating system or for a lack of memory.

    Such an error may come from any library, for example if the disk is full, the process has no
    free file handle, or another process has removed the output folder. The function also examines
    the causes of the error. The result is None for any other error, and if the environment variable
    `PMC_ERROR_TEXT` requests the texts of errors.
    """
    if _shows_texts():
        return None
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            where = f"{link.filename}: " if isinstance(link.filename, str) else ""
            fix = _FIXES.get(link.errno, "Check the disk and the output folder")
            return UserError(
                f"{where}the operating system reports: {link.strerror}. {fix}, then run the same "
                "command again."
            )
        lacks = type(link).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(link)
        if lacks or isinstance(link, MemoryError):
            return UserError(
                "the memory of this machine or of its devices is full. Decrease the settings "
                "batch_size, num_samples or max_new_tokens, or use more devices."
            )
        link = link.__cause__
    return None


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Adds the name of a row or a setting to the message of a `UserError` in a `with` block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def print_unexpected(
    kind: type[BaseException], error: BaseException, frames: TracebackType | None
) -> None:
    """Prints the tracebacks of an unexpected error to stderr, in place of `sys.excepthook`."""
    print(traceback_text(error), file=sys.stderr)


def _shows_texts() -> bool:
    return os.environ.get("PMC_ERROR_TEXT", "") not in ("", "0")


@contextlib.contextmanager
def system_errors(what: str, fix: str = "") -> Iterator[None]:
    """Converts an `OSError` in a `with` block to a `UserError`.

    Args:
        what: first part of the message. A colon and the operating system's reason follow.
        fix: sentence at the end of the message, which says what to do.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise UserError(f"{what}: {cause}. {fix}" if fix else f"{what}: {cause}") from None
