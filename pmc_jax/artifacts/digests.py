"""SHA-256 digests of files, of rows, and of the settings that change what is computed."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmc_jax.artifacts.files import plain
from pmc_jax.errors import system_errors
from pmc_jax.models.remote import is_address, listing

# Sections of settings that do not change what is computed.
_IRRELEVANT_SECTIONS = ("output", "log", "plan", "report", "profile")


def file_digest(path: str | Path) -> str:
    """SHA-256 in hex of a file, or of the names and contents of all files in a folder; for a remote
    address, of the names, sizes and modification times.

    Raises:
        UserError: the file cannot be read.
    """
    if is_address(path):
        return _json_digest(listing(str(path)))
    path = Path(path)
    with system_errors(f"{path}: cannot read this"):
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        files = sorted(entry for entry in path.rglob("*") if entry.is_file())
        return _json_digest([[str(f.relative_to(path)), file_digest(f)] for f in files])


def data_digest(record: Any) -> str:
    """SHA-256 in hex of the type, names and values of a dataclass of texts, such as a ForgetSet."""
    return _json_digest([type(record).__name__, dataclasses.asdict(record)])


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 in hex of the settings that change what is computed."""
    return _json_digest(relevant(plain(settings)))


def relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections of the settings that change what is computed."""
    return {name: value for name, value in settings.items() if name not in _IRRELEVANT_SECTIONS}


def _json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
