"""Paths to write to are on this machine: addresses and the homes of other users are refused."""

import dataclasses
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.config.compare import ResultsConfig
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.loader import read_settings
from pmc_jax.config.paths import output_path
from pmc_jax.config.plan import PlanConfig
from pmc_jax.config.report import ReportConfig
from pmc_jax.config.run import Config, OutputConfig, config_from_overrides
from pmc_jax.config.schema import Section
from pmc_jax.models.export import written_aside

REMOTE = ("gs://b/run", "s3://b/run", "hf://org/run", "file:///tmp/run", "gs:/b", "~nobody", "~x/y")
SETTINGS = (
    *((OutputConfig, "dir", ""), (ResultsConfig, "dir", ""), (EvaluateConfig, "dir", "")),
    *((ReportConfig, "file", ".html"), (PlanConfig, "file", ".json")),
)


@pytest.mark.parametrize(("cls", "name", "suffix"), SETTINGS)
def test_settings(cls: type[Section], name: str, suffix: str, monkeypatch):
    for path in (*REMOTE, "a\0b", "\ud800"):
        assert f"{name}: the value must be" in tiny.fault(cls, **{name: path + suffix})
    for path in ("out", "/tmp/out", "../out", "out/~x", "a: b", "2026-11-30T12:00", "C:x", "~"):
        if not suffix:
            assert getattr(cls(dir=path), name) in (path, str(Path.home()))
    monkeypatch.setenv("HOME", "/home/zorb")
    assert getattr(cls(**{name: f"~/out{suffix}"}), name) == f"/home/zorb/out{suffix}"


def test_expanding_twice_changes_nothing(monkeypatch):
    monkeypatch.setenv("HOME", "/home/zorb")
    config = config_from_overrides(["output.dir=~/out"])
    assert config.output.dir == "/home/zorb/out"
    assert Config(**{"output": dataclasses.asdict(config.output)}) == config


@pytest.mark.parametrize("path", REMOTE)
def test_library_calls(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "folder: the value must be a path on this machine" in tiny.fault(
        output_path, path, "folder"
    )
    with pytest.raises(ValueError, match="on this machine"), written_aside(path):
        pass
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["finetune", "unlearn", "export"])
def test_commands(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    for path in REMOTE:
        message = tiny.refused(command, f"output.dir={path}")
        assert "output.dir: the value must be a path on this machine, not an address" in message


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_of_settings_can_have(name):
    assert "no file can have this name" in tiny.fault(read_settings, name)
