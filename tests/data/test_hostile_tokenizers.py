"""Templates that loop, grow or print nothing, and tokenizers that panic, are one line each."""

import gc
import json
import time
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.config.run import ModelConfig
from pmc_jax.data import template as template_module
from pmc_jax.data.encode import make_encoder
from pmc_jax.data.limits import TooLong, memory_limit, time_limit
from pmc_jax.models.tokenizer import load_tokenizer
from pmc_jax.models.tokenizer_calls import panics_as_errors

LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
QUESTION = "{{ messages[-1]['content'] }}"
GROWTH = "{% set n = namespace(x='a') %}" + LOOP + "{% set n.x = n.x + n.x %}" + END
TEMPLATES = {
    LOOP * 3 + END * 3 + QUESTION: "TooLong: the code takes longer than 1 seconds",
    GROWTH + QUESTION: "",  # This template ends by time or by memory.
    "{{ 'a' * 10000000000 }}" + QUESTION: "MemoryError",
    "{{ 9 ** 9 ** 9 }}" + QUESTION: "computes a power, which may take unlimited time",
    LOOP * 2 + "a" + END * 2 + QUESTION: "",  # And so does this one.
    LOOP + "a" * 20 + END + QUESTION: "prints more than 1000000 characters",
    " ": "does not print the question",
    "{# nothing #}": "does not print the question",
    "{% if false %}" + QUESTION + "{% endif %}<|user|>": "does not print the question",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model")


@pytest.mark.parametrize("text", TEMPLATES)
def test_templates(text, folder, monkeypatch):
    monkeypatch.setattr(template_module, "_MAX_SECONDS", 1.0)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = text
    begin = time.monotonic()
    message = tiny.fault(make_encoder, tokenizer, ModelConfig(format="chat"))
    assert message.startswith("the chat template in model.path") and TEMPLATES[text] in message
    assert "Set model.format=tags" in message and time.monotonic() - begin < 10


def test_a_template_that_loops_on_a_row(folder, monkeypatch):
    monkeypatch.setattr(template_module, "_MAX_SECONDS", 0.2)
    tokenizer = load_tokenizer(folder)
    condition = "{% if 'Zorb' in messages[-1]['content'] %}"
    tokenizer.chat_template = condition + LOOP * 2 + END * 2 + "{% endif %}" + QUESTION
    encoder = make_encoder(tokenizer, ModelConfig())
    assert "TooLong" in tiny.fault(encoder.prompt, "Zorbolant")


def test_a_power_in_text_is_text(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = "**{{ '**' }}" + QUESTION
    make_encoder(tokenizer, ModelConfig())


@pytest.mark.parametrize("step", ["pre_tokenizer", "normalizer"])
def test_regular_expressions_that_never_match(step, folder, capfd):
    pattern = {"pattern": {"Regex": "(a|aa|b)+$"}}
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    steps = {"pre_tokenizer": split, "normalizer": {"type": "Replace", "content": "x"}}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {step: steps[step] | pattern}))
    encoder = make_encoder(load_tokenizer(folder), ModelConfig(format="tags"))
    capfd.readouterr()
    for encode in (encoder.plain, encoder.prompt):
        message = tiny.fault(encode, "a" * 300 + "!")
        assert "the tokenizer in model.path cannot encode the text (TokenizerPanic: Onig" in message
    assert capfd.readouterr().err == ""


def test_limits():
    with pytest.raises(TooLong), time_limit(0.01):
        while True:
            pass
    with pytest.raises(MemoryError), memory_limit(1 << 28):
        bytes(1 << 30)
    with memory_limit(1 << 28), time_limit(1):
        pass
    bytes(1 << 29)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_outlasts_a_collection_of_garbage():
    def waiting(phase, info):
        calls.append(phase)
        if len(calls) == 1:  # Python drops the first exception, which is raised here.
            time.sleep(0.5)

    calls = []
    gc.callbacks.append(waiting)
    try:
        with pytest.raises(TooLong), time_limit(0.2):
            gc.collect()
            time.sleep(10)
    finally:
        gc.callbacks.remove(waiting)
    assert calls


def test_only_panics_become_errors():
    class PanicException(BaseException):
        pass

    with pytest.raises(Exception, match="what"), panics_as_errors():
        raise PanicException("what")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt
