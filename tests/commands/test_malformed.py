"""Every malformed input of the corpus is one line and exit status 2, in bounded time and memory."""

import json
import resource
import shutil
import struct
import time
from pathlib import Path

import golden_models
import malformed
import pytest
import tiny_runs as tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmc_jax.commands.fits import check_fits
from pmc_jax.commands.inputs import load_model, read_inputs
from pmc_jax.config.run import load_config, model_path
from pmc_jax.errors import UserError
from pmc_jax.models.families import decoder_config
from pmc_jax.models.safetensors_folder import SafetensorsFolder
from pmc_jax.sampling.generator import TextGenerator

CORPUS = malformed.corpus()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def spoiled(request, inputs, tmp_path, monkeypatch) -> tuple[str, ...]:
    """Inputs of which one is malformed, in the current folder; the overrides that read it."""
    spoil, overrides = CORPUS[request.param]
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    spoil(tmp_path)
    return overrides


def read_everything(overrides: tuple[str, ...]) -> None:
    """What `pmc unlearn` reads before it claims a folder."""
    config = load_config("run.yaml", overrides)
    rows = read_inputs(config)
    lm = load_model(config, model_path(config), config.train)
    check_fits(config, TextGenerator.of(lm, config.model), rows)


@pytest.mark.parametrize("spoiled", CORPUS, indirect=True)
def test_readers_refuse_malformed_input(spoiled):
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = tiny.fault(read_everything, spoiled)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000  # kilobytes
    assert len(message) < 2000 and message.isprintable(), message


@pytest.mark.parametrize("spoiled", list(CORPUS)[::20], indirect=True)
def test_the_command_refuses_malformed_input(spoiled):
    begin = time.monotonic()
    tiny.refused("unlearn", *spoiled)
    assert time.monotonic() - begin < 10


# Anything at all, under the three readers that meet files of others first.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
GOLDEN = json.loads((golden_models.GOLDEN / "llama3" / "config.json").read_text())


def one_line_or_nothing(function, *arguments) -> None:
    try:
        function(*arguments)
    except UserError as error:
        assert str(error) and "\n" not in str(error)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_settings(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    one_line_or_nothing(load_config, path, [])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(GOLDEN)), JSON, min_size=1, max_size=3))
def test_any_configuration(edit):
    one_line_or_nothing(decoder_config, GOLDEN | edit, "config.json")


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=3), st.integers(0, 80), st.integers())
def test_any_weights(tmp_path_factory, header, size, length):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    text = json.dumps(header).encode()
    length = len(text) if length % 2 else length % 2**64
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + text + bytes(size))

    def read() -> None:
        source = SafetensorsFolder(folder)
        for name in source.names():
            source.read(name, (slice(None),) * len(source.shape(name)))

    one_line_or_nothing(read)
