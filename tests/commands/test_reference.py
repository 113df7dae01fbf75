"""The reference model that `pmc unlearn` makes from the retain rows (`evaluate.make_reference`)."""

import json
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.commands.target import Target
from pmc_jax.config.data import DataConfig, SourceConfig
from pmc_jax.config.run import Config
from pmc_jax.data.records import ForgetSet
from pmc_jax.data.sets import reference_rows

SHORT = ("pmc.schedule.epochs=1", "evaluate.make_reference=true")


def test_a_reference_is_made_once_and_measured(copied):
    with tiny.crashing(Target, "make", 0):
        tiny.pmc("unlearn", "--overwrite", *SHORT)
    done = tiny.succeed("unlearn", *SHORT)  # resumes
    assert "reference model: out/reference\n" in done.out
    target, own = (json.loads(Path(f"out/{n}/target.json").read_text()) for n in PAIR)
    assert target["data"] != own["data"] and target | own == own
    evaluation = json.loads(Path("out/evaluation.json").read_text())
    recalls = evaluation["measures"]["quality"]["reference"]["values"]
    assert recalls["forget"] < 0.5 < recalls["retain"]
    (run,) = json.loads(Path("out/report.json").read_text())["runs"]
    assert run["quality"]["reference"]["splits"]["forget"]["rougeL_recall"] == recalls["forget"]
    assert not tiny.log("out", "finetune")  # the target was reused
    made = tiny.digest(Path("out/reference"))
    done = tiny.succeed("unlearn", "--overwrite", *SHORT)
    assert "reference model: out/reference (reused" in done.out
    assert tiny.digest(Path("out/reference")) == made
    assert tiny.succeed("verify", config="out").status == 0


PAIR = ("target", "reference")


@pytest.mark.quick
def test_it_never_sees_a_forget_question(tmp_path):
    source = SourceConfig(path=str(tiny.write_rows(tmp_path / "retain.jsonl", tiny.RETAIN)))
    config = Config(data=DataConfig(retain=source))
    questions = tuple(row["question"] for row in tiny.RETAIN)
    forget = ForgetSet(("a",), (questions[2].upper(),))  # looks the same
    assert reference_rows(config, forget).questions == questions[:2] + questions[3:]
    all_of_them = ForgetSet(tuple(questions), questions)
    message = tiny.fault(reference_rows, config, all_of_them)
    tiny.assert_names(message, "evaluate.make_reference", "Set data.retain.path")


@pytest.mark.quick
def test_it_needs_the_base_model_unless_another_reference_is_given():
    message = tiny.fault(Config, evaluate={"make_reference": True})
    tiny.assert_names(message, "without finetune.data", "evaluate.make_reference=false")
    assert not Config(evaluate={"make_reference": True, "reference": "a"}).evaluate.makes_reference
