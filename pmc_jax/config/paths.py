"""Paths that the library writes to, which must be on this machine."""

import os
import re
from pathlib import Path
from typing import Any

from pmc_jax.config.schema import Check, setting
from pmc_jax.errors import UserError

_EXPECTED = "a path on this machine, not an address such as gs://bucket or a home such as ~user"


def output_path(path: str | Path, where: str) -> Path:
    """Returns an output path in which the home folder of this user replaces "~".

    Args:
        path: file or folder.
        where: name of the argument, for the message.

    Raises:
        UserError: the path is an address, begins with "~user" or contains a NUL character.
    """
    text = os.fspath(path)
    if not _is_output(text):
        raise UserError(f"{where}: the value must be {_EXPECTED}. Pass another path.")
    return Path(os.path.expanduser(text))


def output_setting(default: str | None, kind: Check | None = None) -> Any:
    """Returns a dataclass field for an output path, which replaces "~" with the home folder.

    Args:
        default: default of the setting.
        kind: further condition on the path.
    """
    expected = f"{kind.expected} and {_EXPECTED}" if kind else _EXPECTED
    fits = kind.holds if kind else lambda path: True
    check = Check(expected, lambda path: _is_output(path) and fits(path))
    return setting(default, check, convert=os.path.expanduser)


def _is_output(path: str) -> bool:
    is_address = re.match(r"[A-Za-z][\w.+-]+:/", path) is not None
    other_home = path.startswith("~") and path.partition("/")[0] != "~"
    return not (is_address or other_home or "\0" in path)
