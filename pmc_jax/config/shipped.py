"""Finds the settings files that the package ships.

The files are in the folder `configs/` of the repository, and the link `config/shipped_files` puts
them into the package. They have names without a suffix, such as `quickstart`.
"""

import os
from pathlib import Path

from pmc_jax.errors import UserError

FOLDER = Path(__file__).with_name("shipped_files")


def names(suffix: str = ".yaml") -> list[str]:
    """Returns the names of the shipped files, such as "quickstart"."""
    paths = sorted(FOLDER.rglob(f"*{suffix}"))
    found = [str(path.relative_to(FOLDER).with_suffix("")) for path in paths]
    return [name for name in found if not name.startswith("lm_eval/")]


def find(
    name: str | os.PathLike, *, folder: str | os.PathLike = ".", suffix: str = ".yaml"
) -> Path:
    """Returns the path of a file, which is a shipped file if `name` is the name of a shipped file.

    A name without a suffix is the name of a shipped file, unless it is the path of an existing file
    or folder.

    Args:
        name: path of a file, or name of a shipped file.
        folder: folder to which the path is relative.
        suffix: suffix of the shipped file.

    Raises:
        UserError: the name has no suffix, and neither a path nor a shipped file has this name.
    """
    path = Path(folder, os.path.expanduser(name))
    if "." in path.name or os.path.lexists(path):
        return path
    if (shipped := os.fspath(name)) in names(suffix):
        return FOLDER / f"{shipped}{suffix}"
    raise UserError(
        f"{name}: no file has this path, and no shipped file has this name. Pass the path of a "
        f"{suffix} file or one of these names: {', '.join(names(suffix))}."
    )
