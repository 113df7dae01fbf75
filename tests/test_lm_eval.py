"""Tasks for lm-evaluation-harness: their files, and the command where it is installed."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
import yaml
from golden_models import full_logits

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.people.generate import PersonRow
from pmc_jax.data.people.generate import rows as people_rows
from pmc_jax.models.load import load

ROOT = Path(__file__).parent.parent
TASKS = ROOT / "configs" / "lm_eval"
NAMES = ("people_forget", "people_retain")


def task(name: str) -> dict:
    """With what it includes."""
    own = yaml.safe_load((TASKS / f"{name}.yaml").read_text())
    base = own.pop("include", None)
    return own if base is None else task(Path(base).stem) | own


def expressions(settings: dict) -> list[str]:
    return [
        part
        for key in ("doc_to_text", "doc_to_choice")
        for part in re.findall(r"{{(.*?)}}", settings[key])
    ]


def test_all_tasks_are_known_here():
    assert sorted(path.stem for path in TASKS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_columns_and_files_are_those_of_generated_people(name):
    settings = task(name)
    assert settings["task"] == name and settings["dataset_path"] == "json"
    columns = {word for e in expressions(settings) for word in re.findall(r"[a-z_]+", e)}
    assert columns == {"question", "paraphrased_answer", "perturbed_answer"}
    assert columns <= {field.name for field in dataclasses.fields(PersonRow)}
    (file,) = settings["dataset_kwargs"]["data_files"].values()
    assert list(settings["dataset_kwargs"]["data_files"]) == [settings["test_split"]]
    split = Path(file).stem.removeprefix("people_")
    for person_row in people_rows(PeopleConfig(count=3, forget=1, questions=2), split):
        row = json.loads(json.dumps(dataclasses.asdict(person_row)))
        choices = eval(expressions(settings)[1], {}, row)  # plain Python as it stands
        assert choices[settings["doc_to_target"]] == row["paraphrased_answer"]
        assert len(choices) == len(set(choices)) == 6


def test_documented_command_names_them():
    text = (ROOT / "docs" / "reference" / "evaluation.md").read_text()
    assert f"--include_path configs/lm_eval --tasks {','.join(NAMES)}" in text
    for name in NAMES:
        (file,) = task(name)["dataset_kwargs"]["data_files"].values()
        assert f"'{Path(file).parent}'" in text


def choice_rows(rows: list[dict[str, str]], seed: int) -> list[dict]:
    """In the columns that the tasks read; of every other row the model learned a wrong choice."""
    others = [other["answer"] for other in tiny.rows(3 * len(rows), seed)]
    found = []
    for i, row in enumerate(rows):
        choices = [row["answer"], *others[3 * i : 3 * i + 3]]
        true = choices.pop(i % 2)
        columns = {"paraphrased_answer": true, "perturbed_answer": choices}
        found.append({"question": row["question"], **columns})
    return found


def accuracy(model: Path, rows: list[dict]) -> float:
    """Share of rows whose first choice is the most likely, by this library."""
    lm, right = load(model), 0
    for row in rows:
        choices = [row["paraphrased_answer"], *row["perturbed_answer"]]
        start = lm.tokenizer(row["question"])["input_ids"]
        tokens = np.array([lm.tokenizer(f"{row['question']} {c}")["input_ids"] for c in choices])
        logits = full_logits(
            lm.model, lm.config, lm.layout, tokens, [tokens.shape[1]] * len(tokens)
        )
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        taken = np.take_along_axis(logp[:, :-1], tokens[:, 1:, None], -1)[..., 0]
        right += np.argmax(taken[:, len(start) - 1 :].sum(-1)) == 0
    return right / len(rows)


@pytest.mark.skipif(
    shutil.which("lm_eval") is None,
    reason="lm-evaluation-harness is not installed: pip install '.[lm-eval]'",
)
def test_command_on_an_exported_model(taught, tmp_path):
    data = {
        "forget": choice_rows(tiny.FORGET, seed=5),
        "retain": choice_rows(tiny.RETAIN, seed=6),
    }
    for name, rows in data.items():
        file = tmp_path / task(f"people_{name}")["dataset_kwargs"]["data_files"]["test"]
        file.parent.mkdir(parents=True, exist_ok=True)
        tiny.write_rows(file, rows)
    model = taught.out / "model"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [
            *("lm_eval", "--model", "hf", "--device", "cpu"),
            *("--model_args", f"pretrained={model},dtype=float32"),
            *("--include_path", str(TASKS), "--tasks", ",".join(NAMES)),
            *("--output_path", str(tmp_path / "results.json")),
        ],
        cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (path,) = tmp_path.glob("results*.json")
    found = json.loads(path.read_text())["results"]
    for name, rows in data.items():
        expected = accuracy(model, rows)
        assert 0 < expected < 1
        assert found[f"people_{name}"]["acc,none"] == pytest.approx(expected)
