"""Options and fixtures that all tests share."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs take longer to compile than to run, so these flags disable slow compiler passes. The
# optimisation passes of XLA stay enabled.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
    # jax 0.12 ends the process at this flag, which it does not know.
    + " --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jax").startswith("0.10."),
)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # The processes of one session share their compiled programs.
    _cache = tempfile.TemporaryDirectory(prefix="pmc_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import pytest
import tiny_runs as tiny

_TESTS = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


# `pytest -m quick` runs the tests in these folders and files, which need little compilation.
_QUICK = (
    *("config", "scoring", "data", "theory", "compare", "report", "test_structure.py"),
    *("unlearning/test_store.py", "unlearning/test_selection.py", "unlearning/test_refusals.py"),
    *("artifacts/test_manifest.py", "artifacts/test_log.py", "distributed/test_launch.py"),
    *("planning/test_planning.py", "planning/test_first_settings.py"),
    *("sampling/test_buckets.py", "test_cli.py", "test_docs.py", "test_packaging.py"),
)


# These files take longest, so the workers begin with them and end at about the same time.
_FIRST = (
    *("commands/test_compare_command.py", "planning/test_plan.py"),
    *("distributed/test_multihost.py", "models/test_families.py", "training/test_step.py"),
    *("sampling/test_engine.py", "unlearning/test_methods.py", "commands/test_resume.py"),
)


def pytest_collection_modifyitems(config, items):
    names = {item: item.path.relative_to(_TESTS).as_posix() for item in items}
    items.sort(key=lambda item: _FIRST.index(n) if (n := names[item]) in _FIRST else len(_FIRST))
    for item in items:
        if names[item].startswith(_QUICK) and "slow" not in item.keywords:
            item.add_marker(pytest.mark.quick)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="The test is slow. Run pytest --slow.")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Returns the folder `shared` next to the repository, or skips the test without it."""
    folder = _TESTS.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"The test needs the folder {folder.name}/ next to the repository.")
    return folder


@pytest.fixture
def strict_dtypes():
    """Makes implicit dtype promotion an error.

    Some tests cannot use this fixture, because optax.adamw and jax.nn.dot_product_attention in
    bfloat16 promote dtypes.
    """
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def on_eight_devices():
    """Returns a function that runs tests/devices/NAME.py in a process with eight virtual devices.

    The function returns the JSON value that the script prints.
    """

    def run(name: str, *arguments: str):
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
            "PYTHONPATH": os.pathsep.join([str(_TESTS.parent), str(_TESTS / "helpers")]),
        }
        done = subprocess.run(
            [sys.executable, str(_TESTS / "devices" / f"{name}.py"), *arguments],
            env=env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    return run


# Several test files read these tiny runs. Both complete runs are made once per session.


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> tiny.Run:
    """Returns a run without fine-tuning and without logged texts, with a checkpoint per step."""
    return tiny.run(tmp_path_factory.mktemp("plain"), "output.checkpoint_every=1")


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> tiny.Run:
    """Returns a run that first fine-tunes its target model, with texts in its log."""
    folder = tmp_path_factory.mktemp("taught")
    return tiny.run(folder, finetune=tiny.FINETUNE, log={"text": True})


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """Returns a folder of inputs, which becomes the current folder."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


@pytest.fixture
def finished(plain, tmp_path, monkeypatch) -> Path:
    """Returns a copy of the run `plain`, which becomes the current folder."""
    return _copy(plain, tmp_path, monkeypatch)


@pytest.fixture
def copied(taught, tmp_path, monkeypatch) -> Path:
    """Returns a copy of the run `taught`, which becomes the current folder."""
    return _copy(taught, tmp_path, monkeypatch)


def _copy(run: tiny.Run, tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    monkeypatch.chdir(folder)
    return folder
