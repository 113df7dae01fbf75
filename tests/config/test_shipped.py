"""The shipped settings files: found by a bare name anywhere, after the user's own files."""

import dataclasses
import os
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.config import shipped
from pmc_jax.config.compare import load_compare
from pmc_jax.config.run import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_settings_file_of_the_repository_is_shipped():
    files = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    assert {f"{name}.yaml" for name in shipped.names()} == {
        name for name in files if not name.startswith("lm_eval/")
    }
    assert {"quickstart", "compare_people", "tpu/llama32_3b_v5e_16"} <= {*shipped.names()}


def test_a_bare_name_is_a_shipped_file():
    path = CONFIGS / "quickstart.yaml"
    config = load_config("quickstart", ["seed=7"])
    assert config == dataclasses.replace(load_config(path), seed=7)
    # `run: quickstart.yaml` in this file stands for its neighbour.
    assert load_compare("compare_people") == load_compare(CONFIGS / "compare_people.yaml")


def test_a_comparison_of_the_user_may_name_a_shipped_run():
    Path("mine.yaml").write_text("{run: quickstart, methods: {pmc: {}}, output: {dir: out}}")
    assert load_compare("mine.yaml").run == load_compare("compare_people").run


def test_own_files_and_folders_come_first():
    Path("quickstart").write_text("seed: 11")
    assert load_config("quickstart").seed == 11
    os.remove("quickstart")
    Path("quickstart").mkdir()
    tiny.assert_names(tiny.fault(load_config, "quickstart"), "quickstart", "Is a directory")


@pytest.mark.parametrize("name", ["quickstrat", "../configs/quickstart", "a\0b", "lm_eval/x"])
def test_a_wrong_name_lists_the_shipped_ones(name):
    for load in (load_config, load_compare):
        tiny.assert_names(tiny.fault(load, name), "one of these names", "quickstart", "tofu_phi15")


def test_commands_take_the_name():
    done = tiny.succeed("config", "--changed", config="quickstart")
    assert f"{shipped.FOLDER / 'quickstart.yaml'}:4" in done.out
    tiny.assert_names(tiny.refused("unlearn", config="quick"), "quick: ", "tofu_mini_smollm2")
