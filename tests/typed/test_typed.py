"""Type checkers read the public names: user.py has no error, and each line of wrong.py has one."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pmc_jax

HERE = Path(__file__).parent
ROOT = Path(pmc_jax.__file__).parents[1]


@pytest.fixture
def scripts(tmp_path) -> Path:
    """A folder with both scripts, away from the checkout."""
    for name in ("user.py", "wrong.py"):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def _wrong_lines() -> set[int]:
    lines = (HERE / "wrong.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def _check(folder: Path, *command: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # errors were found
    return done.stdout


def _assert_found(errors: set[tuple[str, int]]) -> None:
    assert not {line for file, line in errors if file == "user.py"}
    assert {line for file, line in errors if file == "wrong.py"} == _wrong_lines()


@pytest.mark.slow
def test_pyright(scripts):
    pytest.importorskip("pyright", reason="needs pip install 'pmc_jax[types]'")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (scripts / "pyrightconfig.json").write_text(json.dumps(settings))
    out = _check(scripts, "pyright", "--pythonpath", sys.executable, "--outputjson")
    found = json.loads(out)["generalDiagnostics"]
    _assert_found({(Path(d["file"]).name, d["range"]["start"]["line"] + 1) for d in found})


@pytest.mark.slow
def test_mypy(scripts):
    pytest.importorskip("mypy", reason="needs pip install 'pmc_jax[types]'")
    # The package transformers alone takes mypy minutes.
    (scripts / "mypy.ini").write_text(
        "[mypy]\nstrict = True\nfollow_imports = silent\n"
        "[mypy-transformers.*]\nfollow_imports = skip\n"
    )
    # mypy finds an installed package by itself, and refuses its folder here.
    env = {} if "site-packages" in ROOT.parts else {"MYPYPATH": str(ROOT)}
    out = _check(scripts, "mypy", "user.py", "wrong.py", **env)
    found = [line.split(":", 2) for line in out.splitlines() if ": error: " in line]
    _assert_found({(file, int(line)) for file, line, _ in found})


def test_the_script_uses_every_public_name():
    text = (HERE / "user.py").read_text()
    assert not [name for name in pmc_jax.__all__ if f"pmc.{name}" not in text]


def test_type_checkers_see_the_names_of_the_lazy_table():
    stub = {}
    source = importlib.util.find_spec("pmc_jax").origin
    for line in Path(source).read_text().splitlines():
        if line.startswith("    from pmc_jax.") and " as " in line:
            _, home, _, name, _, renamed = line.split()
            assert name == renamed
            stub[name] = home
    assert stub == pmc_jax._HOME_OF
