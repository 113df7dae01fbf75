"""Full disks, in a process of their own: where a write of orbax fails it leaves coroutines behind,
whose warnings would come up in some later test.
"""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_full_disks():
    path = Path(__file__).parents[1] / "isolated" / "disk_full.py"
    options = ["-rs", "-p", "no:unraisableexception", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 0 and " passed" not in done.stdout:
        pytest.skip("needs the right to mount a tmpfs")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout[-4000:]
