"""The other commands on a tiny model, and how often the jitted functions are compiled."""

import collections
import json
from pathlib import Path

import jax
import pytest
import tiny_runs as tiny
from jax import monitoring

from pmc_jax.data.encode import Encoder
from pmc_jax.sampling import batching
from pmc_jax.training import trainer as trainer_module

JITTED = ("prefill", "start_batch", "compact_batch", "decode", "train_step")


# The other commands


def test_evaluate_gives_the_numbers_that_the_run_gave(plain, monkeypatch):
    monkeypatch.chdir(plain.folder)
    before = tiny.digest(plain.folder)
    for path, moment in (("model", "before"), ("out/model", "after")):
        done = tiny.succeed("evaluate", f"model.path={path}")
        numbers = json.loads(done.lines[-1])
        assert numbers.pop("words") == "ascii" and numbers == tiny.results()[moment]
        assert done.lines[0].split() == ["quality", "value"]
    assert tiny.digest(plain.folder) == before


def test_evaluate_needs_something_to_measure(inputs):
    done = tiny.pmc("evaluate", "data.evaluate=null")
    assert done.status == 2 and "data.evaluate: no evaluation set" in done.err


def test_a_run_needs_nothing_to_evaluate(inputs):
    tiny.succeed("unlearn", "data.evaluate=null")
    found = tiny.results()
    assert found["before"] == found["after"]
    assert found["after"]["splits"] == {} and found["after"]["unlearn_quality"] is None
    assert len(found["rounds"]) == tiny.STEPS


def test_a_run_without_steps_exports_no_model(inputs, caplog):
    tiny.succeed("unlearn", "pmc.schedule.epochs=0")
    assert not Path("out/model").exists()
    assert "out: the run ended at step 0 of 0, so the weights are not unlearned and" in caplog.text
    assert tiny.pmc("verify", config="out").status == 0
    tiny.succeed("unlearn", "--purge", config="out")
    assert "at step 0 of 0, so the weights are not unlearned" in tiny.refused(
        "export", config="out"
    )
    found = tiny.results()
    assert found["rounds"] == [] and found["before"] == found["after"]


def test_every_prompt_is_encoded_once(inputs, monkeypatch):
    encoded, original = [], Encoder._encode

    def encode(self, questions):
        encoded.extend(questions)
        return original(self, questions)

    monkeypatch.setattr(Encoder, "_encode", encode)
    tiny.succeed("unlearn", "pmc.schedule.epochs=1")
    counts = collections.Counter(encoded)
    assert {counts[row["question"]] for row in (*tiny.FORGET, *tiny.AGAIN, *tiny.RETAIN)} == {1}


# Compilations


class Calls:
    """Which jitted functions were called with which shapes, and how often each was compiled."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.shapes = {name: set() for name in JITTED}
        self.compiled: list[str] = []
        for name in JITTED:
            owner = trainer_module if name == "train_step" else batching
            patch.setattr(owner, name, self._noting(name, getattr(owner, name)))
        monitoring.register_event_duration_secs_listener(self._listen)

    def _noting(self, name, function):
        def call(*args, **kwargs):
            leaves, tree = jax.tree.flatten(args)
            static = tuple(sorted((k, v) for k, v in kwargs.items() if k != "sampler"))
            shapes = tuple((x.shape, x.dtype) for x in leaves)
            self.shapes[name].add((tree, shapes, static, kwargs.get("sampler")))
            return function(*args, **kwargs)

        return call

    def _listen(self, event: str, seconds: float, **details) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.compiled.append(details["fun_name"].removeprefix("jit(").removesuffix(")"))

    def close(self) -> None:
        monitoring.unregister_event_duration_listener(self._listen)

    def count(self) -> dict[str, int]:
        return {name: self.compiled.count(name) for name in JITTED}


def test_every_shape_compiles_once_and_an_identical_run_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.write_inputs(tmp_path, finetune={**tiny.FINETUNE, "epochs": 3}))
    options = ["pmc.sampling.max_new_tokens=20", "pmc.sampling.num_samples=5"]
    jax.clear_caches()
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        try:
            tiny.succeed("unlearn", *options)
            first = calls.count()
            assert first == {name: len(shapes) for name, shapes in calls.shapes.items()}
            assert min(first[name] for name in JITTED if name != "compact_batch") >= 1
            # Greedy and sampled, before and after: a full group and a small one, four buckets each.
            assert first["prefill"] <= 4 and first["decode"] <= 12 and first["train_step"] <= 4
            calls.compiled.clear()
            tiny.succeed("unlearn", *options, "output.dir=out2")
            assert calls.compiled == []
        finally:
            calls.close()
    assert tiny.same_weights("out/model", "out2/model")
