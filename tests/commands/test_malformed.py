"""Every malformed input of the corpus is one line and exit status 2, in bounded time and memory."""

import json
import resource
import struct
import time

import golden_models
import malformed
import pytest
import tiny_runs as tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmc_jax.config.run import load_config
from pmc_jax.errors import UserError
from pmc_jax.models.families import decoder_config
from pmc_jax.models.safetensors_folder import SafetensorsFolder

CORPUS = malformed.corpus()


def test_the_corpus_is_large():
    assert len(CORPUS) >= 200


@pytest.mark.parametrize("name", CORPUS)
def test_malformed_input(name, tmp_path, monkeypatch):
    spoil, overrides = CORPUS[name]
    monkeypatch.chdir(tiny.write_inputs(tmp_path))
    spoil(tmp_path)
    memory, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    message = tiny.refused("unlearn", *overrides)
    assert time.monotonic() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500_000  # kilobytes
    assert len(message) < 2000 and message.isprintable(), message


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
