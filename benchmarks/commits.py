"""Checks out a commit of this repository into a temporary folder."""

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def commit_id(name: str) -> str:
    """Returns the full id of a commit that has the given name, such as HEAD~1."""
    git = ["git", "-C", str(REPOSITORY), "rev-parse", "--verify", f"{name}^{{commit}}"]
    found = subprocess.run(git, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if found.returncode:
        raise SystemExit(f"{name}: this is no commit of {REPOSITORY}. Run: git log --oneline")
    return found.stdout.strip()


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Yields a temporary folder with the files of a commit."""
    archive = subprocess.check_output(["git", "-C", str(REPOSITORY), "archive", commit])
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(name, filter="data")
        yield Path(name)
