"""Settings that no machine can work with are refused before a folder is claimed."""

from pathlib import Path

import jax
import pytest
import tiny_runs as tiny

from pmc_jax.distributed import memory


@pytest.fixture
def inputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny.write_inputs(tmp_path)


HUGE = {
    "train.batch_size=65536": ("train.batch_size: a step has 65,536 rows", "only 96 rows"),
    "train.accumulation_steps=65536": ("Lower train.batch_size or train.accumulation_steps.",),
    "train.lora.rank=65536": ("train.lora.rank: the value is 65536", "model is only 32"),
    "pmc.sampling.max_new_tokens=1000000": ("forget:0: ", "window of 256 tokens"),
    "evaluate.max_new_tokens=1000000": ("forget:0: ", "window of 256 tokens"),
    "data.forget=people:forget data.people.count=1000000": ("data.people.count", "at most 200"),
}
IN_FINETUNING = "finetune.data=retain.jsonl finetune.batch_size=65536"
IN_EVALUATION = {
    "evaluate.measures=relearned evaluate.relearn.batch_size=65536": (
        "evaluate.relearn.batch_size: a step has 65,536 rows, but all epochs together have only 8",
    ),
    "evaluate.measures=perplexity evaluate.corpus.chunk_tokens=1000": (
        "evaluate.corpus.chunk_tokens: the value is 1000",
        "room for 256 tokens of text",
    ),
}
TOO_LARGE = {
    "pmc.sampling.num_samples=10000": "pmc.sampling: Sampling 40,000 answers of up to 8 tokens",
    "pmc.reward_samples=10000": "pmc.reward_samples: Sampling 60,000 answers",
    "evaluate.levels.measured=sampled evaluate.levels.num_samples=10000": "evaluate.levels: ",
    "evaluate.measures=sampling evaluate.leakage.num_samples=10000": "evaluate.leakage: ",
    "pmc.schedule.retain_rows=1000 train.batch_size=64": "train: training 19,616 weights on 64,064",
}


def cases(*tables):
    return [(key.split(), value) for table in tables for key, value in table.items()]


@pytest.mark.parametrize(("overrides", "parts"), cases(HUGE, IN_EVALUATION))
def test_values_that_no_run_needs(overrides, parts, inputs):
    tiny.assert_names(tiny.refused("unlearn", *overrides), *parts)


@pytest.mark.parametrize(("overrides", "parts"), cases(IN_EVALUATION))
def test_values_that_no_evaluation_needs(overrides, parts, inputs):
    tiny.assert_names(tiny.refused("evaluate", *overrides), *parts)


@pytest.mark.parametrize("command", ["finetune", "unlearn"])
def test_a_step_of_fine_tuning_with_more_rows_than_all_epochs(command, inputs):
    message = tiny.refused(command, *IN_FINETUNING.split())
    tiny.assert_names(message, "finetune.batch_size: a step has 65,536 rows", "only 40 rows")


@pytest.mark.parametrize(("overrides", "part"), cases(TOO_LARGE))
def test_work_that_needs_more_memory_than_is_free(overrides, part, inputs, monkeypatch):
    monkeypatch.setattr(memory, "free_on_host", lambda: 5e6)
    message = tiny.refused("unlearn", *overrides)
    tiny.assert_names(message, part, "MB of memory on this machine, but only 5 MB is free. Lower")


def test_a_sample_that_needs_more_memory_than_is_free(inputs, monkeypatch):
    monkeypatch.setattr(memory, "free_on_host", lambda: 5e6)
    tiny.assert_names(tiny.refused("sample", "--samples", "10000"), "Sampling 60,000")


def test_free_memory(tmp_path, monkeypatch):
    """The limit of a container counts, without the file cache, which the kernel gives back."""
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    for name, text in (("max", "40000"), ("current", "30000"), ("stat", "anon 1\nfile 5000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINERS", ())
    assert memory.free_on_host() == 50 * 1024
    container = (tmp_path, "memory.max", "memory.current", "file")
    monkeypatch.setattr(memory, "_CONTAINERS", (container,))
    assert memory.free_on_host() == 15_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_on_host() == 50 * 1024
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "none")
    assert memory.free_on_host() == float("inf")


def test_the_memory_of_a_device(monkeypatch):
    """A device with its own memory does not use that of the machine."""
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    monkeypatch.setattr(memory, "free_on_host", lambda: 1e9)
    monkeypatch.setattr(memory, "free_on_device", lambda device: 4e9)
    memory.check_memory("This", "Fix.", mesh, on_devices=3e9, on_host=1e9)
    for needs, part in (((5e9, 0), "at least 5.0 GB"), ((0, 2e9), "only 1.0 GB")):
        sizes = dict(zip(("on_devices", "on_host"), needs, strict=True))
        tiny.assert_names(tiny.fault(memory.check_memory, "This", "Fix.", mesh, **sizes), part)
