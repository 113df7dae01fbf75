"""The settings of library calls: sections, whole settings, and dicts of either."""

import pytest
import tiny_runs as tiny

from pmc_jax.config.arguments import section_of, sections_of
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.pmc import PMCConfig
from pmc_jax.config.run import Config, FinetuneConfig
from pmc_jax.config.train import TrainConfig

SAMPLING = {"sampling": {"num_samples": 8}}
WHOLE = {"pmc": SAMPLING, "train": {"learning_rate": 1}, "seed": 3}


def read(config=None, seed=None, **others) -> Config:
    return Config(**sections_of("pmc", config, seed, **({"train": None, "method": None} | others)))


@pytest.mark.parametrize("config", [SAMPLING, PMCConfig(**SAMPLING), {"pmc": SAMPLING}])
def test_a_section_is_given_in_three_ways(config):
    assert read(config) == Config(pmc=SAMPLING)


@pytest.mark.parametrize("config", [WHOLE, Config(**WHOLE)])
def test_whole_settings_give_all_sections_and_arguments_replace_them(config):
    assert read(config) == Config(**WHOLE)
    replaced = read(config, 0, train={"batch_size": 2}, method=Config(method={"name": "npo"}))
    train, method = {"batch_size": 2}, {"name": "npo"}
    assert replaced == Config(pmc=SAMPLING, train=train, method=method)


def test_nothing_gives_the_defaults():
    assert read() == read({}) == Config()
    assert section_of(ModelConfig, None, "model") == ModelConfig()


def test_keys_that_both_have_name_settings_of_the_section():
    sections = sections_of("finetune", {"data": ["a.jsonl"]}, None)
    assert sections["finetune"] == FinetuneConfig(data=["a.jsonl"])


def test_faults_of_sections_that_a_call_does_not_read_do_not_matter():
    config = EvaluateConfig(keep_best="utility", every=2)  # a run needs rows for this setting
    assert sections_of("evaluate", config, None)["evaluate"] is config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {"sampling": {"num_sample": 8}}}, "config: sampling.num_sample: this setting"),
        ({"config": {"samplng": {}}}, "Did you mean sampling?"),
        ({"config": {"pmc": {}, "trian": {}}}, "config: trian: this setting is unknown. Did you"),
        ({"train": {"learning_rate": -1}}, "train: learning_rate: the value must be a number abo"),
        ({"train": PMCConfig()}, "train: the value must be a TrainConfig, a Config or a dict of"),
        ({"config": [1]}, "it is of type list"),
        ({"method": {"name": "nop"}}, "method: name: the value must be one of pmc, "),
        ({"config": {"Who is Zorbolant?": 1}}, "config: (key 1): this setting is unknown"),
        ({"config": {7: 1}}, "config: (key 1): this setting is unknown"),
        ({"seed": -1}, "seed: the value must be between 0 and"),
        ({"seed": "1"}, "seed: the value must be an integer"),
    ],
)
def test_faults_are_one_line_that_names_the_argument_and_the_setting(arguments, message):
    found = tiny.fault(read, **arguments)
    assert message in found and "Zorb" not in found


def test_checks_are_those_of_a_file():
    with pytest.raises(ValueError, match="learning_rate") as given:
        TrainConfig(learning_rate=0)
    assert str(given.value).split(": ", 1)[1] in tiny.fault(read, train={"learning_rate": 0})
