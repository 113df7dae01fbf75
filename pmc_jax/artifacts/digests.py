"""Computes SHA-256 digests of files, of rows and of settings."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.files import plain
from pmc_jax.config.reading import open_regular
from pmc_jax.errors import system_errors
from pmc_jax.models.remote import is_address, listing

# These sections, and the setting `profile`, do not change the results of a run.
_IRRELEVANT = ("output", "log", "plan", "report", "profile")


def file_digest(path: str | Path) -> str:
    """Returns the SHA-256 digest of a file, a folder or a remote address, in hexadecimal.

    The digest of a folder covers the names and contents of all its files. The digest of a remote
    address covers the names, sizes and modification times of its files.

    Raises:
        UserError: a file or the address cannot be read.
    """
    if is_address(path):
        return _json_digest(listing(str(path)))
    path = Path(path)
    fix = "Check whether it is a regular file that you have permission to read."
    with system_errors(f"{path}: the file cannot be read", fix):
        if not path.is_dir():
            with open_regular(path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = sorted(entry for entry in path.rglob("*") if entry.is_file())
        return _json_digest([[str(f.relative_to(path)), file_digest(f)] for f in files])


def data_digest(record: Any) -> str:
    """Returns the SHA-256 digest of a dataclass such as `ForgetSet`, in hexadecimal.

    The digest covers the class name and the names and values of all fields.
    """
    return _json_digest([type(record).__name__, dataclasses.asdict(record)])


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Returns the SHA-256 digest of the settings that can change the results of a run."""
    return _json_digest(relevant(plain(settings)))


def relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings without those that do not change the results of a run."""
    return {name: value for name, value in settings.items() if name not in _IRRELEVANT}


def _json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
