"""Calls tokenizers, and converts a panic of the tokenizers library to an ordinary error.

For example, the library panics if a regular expression of a tokenizer takes too many steps. A panic
is not an `Exception`, and its report on stderr has several lines and may quote private text.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from pmc_jax.errors import UserError, reason


class TokenizerPanic(Exception):
    """Error that replaces a panic of the tokenizers library."""


def token_ids(tokenizer: Any, text: str | list[str], **options: Any) -> list:
    """Returns the token ids of a text, or a list with the token ids of each text.

    Args:
        tokenizer: a tokenizer of transformers.
        text: one text or several texts.
        options: further arguments for the call of the tokenizer.

    Raises:
        UserError: the tokenizer cannot encode the text.
    """
    try:
        with panics_as_errors():
            return list(tokenizer(text, **options)["input_ids"])
    except Exception as error:  # The tokenizers library raises plain Exception.
        raise UserError(cannot_encode(error)) from None


def cannot_encode(error: Exception) -> str:
    """Returns the message of the error for a text that a tokenizer cannot encode.

    `error` is the error that the tokenizer raised.
    """
    return (
        f"the tokenizer in model.path cannot encode the text ({reason(error)}). Correct the "
        "tokenizer, for example add an unknown token, or change the text."
    )


@contextlib.contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raises `TokenizerPanic` if the tokenizers library panics in the `with` block.

    Everything that the block writes to stderr is discarded, such as the report of the panic.
    """
    with _without_stderr():
        try:
            yield
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise TokenizerPanic(str(error)) from None


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # The stream is closed, or the process has no free file handle.
        yield
        return
    try:
        os.dup2(_null(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_WRONLY)
