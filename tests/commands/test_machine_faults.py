"""Faults of the machine end a command with one line: no folder, handle or memory."""

import errno
import resource
import shutil
from pathlib import Path

import jax
import pytest
import tiny_runs as tiny

from pmc_jax.artifacts.log import RunLog
from pmc_jax.commands import start, unlearn_job
from pmc_jax.unlearning.loop import Unlearning


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tiny.write_inputs(tmp_path, pmc={"epochs": 1}))
    return tmp_path


class JaxRuntimeError(RuntimeError):
    """An error with the name of that of the JAX runtime."""


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.EMFILE, "Too many open files", "a/b"), ("a/b: ", "Too many open files.")),
        (OSError(errno.ENOSPC, "No space left on device"), ("reports: No space left on device.",)),
        (PermissionError(errno.EACCES, "Permission denied", "x\ny"), ("x\\u000ay: ", "denied")),
        (MemoryError(), ("memory", "Decrease the settings batch_size")),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), ("memory", "more devices")),
    ],
)
def test_errors_of_the_system(error, parts, inputs, monkeypatch):
    def failing(*_, **__):
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a library") from cause

    monkeypatch.setattr(unlearn_job, "load_model", failing)
    tiny.assert_names(tiny.refused("unlearn"), *parts)
    monkeypatch.setenv("PMC_ERROR_TEXT", "1")
    with pytest.raises(RuntimeError, match="a library"):
        tiny.pmc("unlearn")


def test_an_output_folder_that_vanishes(inputs, monkeypatch):
    step = Unlearning._take_step

    def vanishing(self, *arguments):
        shutil.rmtree("out", ignore_errors=True)
        return step(self, *arguments)

    monkeypatch.setattr(Unlearning, "_take_step", vanishing)
    done = tiny.pmc("unlearn", "output.checkpoint_every=1")
    (line,) = [text for text in done.err.splitlines() if text.startswith("pmc: error")]
    assert done.status == 2, done.err
    tiny.assert_names(line, "out/checkpoints: the folder was removed or moved during the run")


def test_the_log_needs_its_folder(tmp_path):
    with pytest.raises(OSError, match="No such file"), RunLog(tmp_path / "out") as log:
        shutil.rmtree(tmp_path / "out")
        log.resume(0)


def test_a_home_that_cannot_be_written(monkeypatch):
    used = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: used.append(setting))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for home in ("/proc/nowhere", "/dev/null"):
        monkeypatch.setenv("HOME", home)
        start.keep_compilations()
    assert used == []


def test_few_file_handles(monkeypatch):
    limits = {}
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(now=pair))
    for pair, now in (
        ((100, 1000), (256, 1000)),
        ((1024, 4096), None),
        ((100, -1), (256, -1)),
        ((-1, -1), None),
    ):
        limits.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _, pair=pair: pair)
        start.check_file_limit()
        assert limits.get("now") == now
    monkeypatch.setattr(resource, "getrlimit", lambda _: (30, 30))
    message = tiny.fault(start.check_file_limit)
    tiny.assert_names(message, "only 30 files", "needs 256", "ulimit -Hn")
