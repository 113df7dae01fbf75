"""The settings that model cards and trackers show."""

import dataclasses

from pmc_jax.config.public import public_settings
from pmc_jax.config.run import Config, config_from_dict


def test_names_of_files_and_functions_are_left_out():
    paths = {"path": "/home/zorb"}
    settings = {
        "model": paths,
        "data": {"forget": paths},
        "pmc": {"score": {"weights": {"zorb:score": 1}}},
        "method": {"name": "npo", "refusals": "zorb"},
        "finetune": {"data": ["zorb"]},
        "output": {"dir": "zorb"},
    }
    shared = public_settings(config_from_dict(settings))
    assert "zorb" not in str(shared)
    assert shared["method.name"] == "npo" and shared["pmc.answer"] == "own"
    assert shared["pmc.sampling.num_samples"] == 20
    names = {f"{f.name}." for f in dataclasses.fields(Config)} | {"seed"}
    assert all(name.startswith(tuple(names)) for name in shared)
