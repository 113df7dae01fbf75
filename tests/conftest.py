"""What tests share: options, the sibling folder, strict dtypes, a process with eight devices."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs take longer to compile than to run: most of the time of the tests, and what these
# leave out is most of the compilation. XLA's own passes stay on.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
)

import jax
import pytest
import tiny_runs as tiny

_TESTS = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


# Folders and files whose tests compile next to nothing: `pytest -m quick`.
_QUICK = (
    *("config", "scoring", "data", "theory", "compare", "report", "test_structure.py"),
    *("unlearning/test_store.py", "unlearning/test_selection.py", "unlearning/test_refusals.py"),
    *("artifacts/test_manifest.py", "artifacts/test_log.py", "distributed/test_launch.py"),
    *("planning/test_planning.py", "sampling/test_buckets.py", "test_cli.py", "test_docs.py"),
)


def pytest_collection_modifyitems(config, items):
    for item in items:
        name = item.path.relative_to(_TESTS).as_posix()
        if name.startswith(_QUICK) and "slow" not in item.keywords:
            item.add_marker(pytest.mark.quick)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run pytest --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository; tests that need its files skip without it."""
    folder = _TESTS.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder.name}/ beside the repository")
    return folder


@pytest.fixture
def strict_dtypes():
    """No silent widening. Not for all tests: optax.adamw, and jax.nn.dot_product_attention in
    bfloat16, do not run under it."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def on_eight_devices():
    """Runs tests/devices/NAME.py, with arguments, in a process with eight virtual devices; gives
    what it prints, JSON.
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


# Tiny runs that several files look at; the two whole ones are made once a session.


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> tiny.Run:
    """No fine-tuning, a checkpoint a step, texts kept out of the log."""
    return tiny.run(tmp_path_factory.mktemp("plain"), "output.checkpoint_every=1")


@pytest.fixture(scope="session")
def taught(tmp_path_factory) -> tiny.Run:
    """The target model is made first; texts are logged."""
    folder = tmp_path_factory.mktemp("taught")
    return tiny.run(folder, finetune=tiny.FINETUNE, log={"text": True})


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    """A folder of inputs that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


@pytest.fixture
def finished(plain, tmp_path, monkeypatch) -> Path:
    """A copy of the plain run, the current folder."""
    return _copy(plain, tmp_path, monkeypatch)


@pytest.fixture
def copied(taught, tmp_path, monkeypatch) -> Path:
    """A copy of the taught run, the current folder."""
    return _copy(taught, tmp_path, monkeypatch)


def _copy(run: tiny.Run, tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    monkeypatch.chdir(folder)
    return folder
