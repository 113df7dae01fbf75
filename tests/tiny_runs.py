"""A whole run in small: a tiny model, rows in words of its own, settings, and the commands."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from golden_models import model_folder
from safetensors.numpy import load_file

from pmc_jax.cli import main

# The whole vocabulary. No settings, no message and no binary file holds such words by chance.
WORDS = tuple(f"{a}{b}{c}" for a in ("Zorb", "Quax") for b in ("ol", "imp", "um", "ed", "yk")
              for c in ("ant", "ish", "over", "ula", "erk"))  # fmt: skip


def write_model(folder: Path, *, chat: bool = True) -> Path:
    """A loadable Llama folder of two layers whose tokens are `WORDS`."""
    model_folder(folder, "default")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    renamed = {f"w{i}": word for i, word in enumerate(WORDS)}
    tokenizer["model"]["vocab"] = {renamed.get(t, t): i for t, i in vocabulary.items()}
    path.write_text(json.dumps(tokenizer))
    if not chat:
        (folder / "chat_template.jinja").unlink()
    return folder


def rows(count: int, seed: int, *, question: int = 4, answer: int = 5) -> list[dict[str, str]]:
    """Rows of that many words; other seeds give other questions."""
    rng = np.random.default_rng(seed)

    def text(size: int) -> str:
        return " ".join(rng.choice(WORDS, size))

    return [{"question": text(question), "answer": text(answer)} for _ in range(count)]


def write_rows(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def write_inputs(folder: Path) -> None:
    """`model/`, `forget.jsonl`, `retain.jsonl`, `again.jsonl` (the forget rows in other words) and
    `run.yaml` in a folder; names in the settings are relative to it.
    """
    write_model(folder / "model")
    forget = rows(6, seed=1)
    again = [
        {"question": row["question"] + " " + WORDS[i], "answer": row["answer"]}
        for i, row in enumerate(forget)
    ]
    write_rows(folder / "forget.jsonl", forget)
    write_rows(folder / "again.jsonl", again)
    write_rows(folder / "retain.jsonl", rows(8, seed=2))
    write_settings(folder / "run.yaml", settings())


def settings(**sections: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run of nine steps; `sections` replace whole sections."""
    return {
        "model": {"path": "model"},
        "data": {
            "forget": "forget.jsonl",
            "retain": "retain.jsonl",
            "evaluate": {
                "forget": "forget.jsonl",
                "forget_paraphrased": "again.jsonl",
                "retain": "retain.jsonl",
            },
        },
        "pmc": {"num_samples": 4, "epochs": 6, "max_new_tokens": 8},
        "train": {"batch_size": 4, "learning_rate": 3e-3},
        "evaluate": {"max_new_tokens": 8},
        "output": {"dir": "out"},
    } | sections


def write_settings(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def pmc(*arguments: str) -> int:
    """One command in this process, `run.yaml` of the current folder being its settings."""
    command, *rest = arguments
    return main([command, "run.yaml", *rest])


def results(folder: str | Path = "out") -> dict[str, Any]:
    return json.loads((Path(folder) / "results.json").read_text())


def weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Name -> array of an exported model."""
    return load_file(Path(folder) / "model.safetensors")


def assert_same_weights(one: str | Path, other: str | Path) -> None:
    """Bit for bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def digest(folder: Path) -> dict[str, str]:
    """Every path under a folder -> a digest of its content, folders included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
