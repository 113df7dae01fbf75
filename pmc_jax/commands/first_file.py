"""Writes the settings file of `pmc init`, in which each line has a comment."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pmc_jax.errors import UserError, system_errors
from pmc_jax.planning.first_settings import Choice

NAME = "my_run.yaml"
_WIDTH = 34  # column in which comments begin, if the line is not longer
_SECTIONS = {
    "model": "the model that knows the data",
    "data": "paths are relative to the folder where you run pmc",
    "data.forget": "what to forget; training reads the questions only",
    "data.retain": "what to keep; the model is trained on these answers",
    "data.evaluate": "read only to measure, never to train",
    "data.evaluate.forget": "the answers that it must no longer give",
    "data.evaluate.forget_paraphrased": "the same questions in other words",
    "data.evaluate.retain": "the answers that it must still give",
    "finetune": "teaches the example rows; delete it for your own data",
    "pmc": "the unlearning method, Partial Model Collapse",
    "pmc.sampling": "the model's own answers, which replace its old ones",
    "pmc.score": "how similar a replacement may be to the old answer",
    "pmc.selection": "which of the sampled answers replace old answers",
    "pmc.augmentation": "how replacement answers are trained",
    "pmc.schedule": "how long the run trains, and on how many rows",
    "train": "the optimizer",
    "train.lora": "low-rank adapters in place of all weights",
    "evaluate": "how the result is measured",
    "output": "where the results go",
}


def check_absent(folder: Path) -> None:
    """Raises a `UserError` if the folder has a settings file already, or is no folder."""
    file = folder / NAME
    if os.path.lexists(file):
        raise UserError(
            f"{file}: the file exists already, so nothing was changed. Pass another DIR, or rename "
            "the file."
        )
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{folder}: the path is a file. Pass the path of a folder.")


def settings_text(choices: Sequence[Choice], head: Sequence[str]) -> str:
    """Returns the text of the file.

    Args:
        choices: settings, which are grouped by their sections in the order of `_SECTIONS`.
        head: lines at the top of the file.
    """
    lines = [f"# {line}" for line in head]
    tree: dict[str, list[Choice]] = {}
    for choice in choices:
        tree.setdefault(choice.name.rpartition(".")[0], []).append(choice)
    for section, why in _SECTIONS.items():
        own = tree.get(section, [])
        if not own and not any(name.startswith(f"{section}.") for name in tree):
            continue
        lines.append(_line(section, "", why))
        lines += [_line(choice.name, _value(choice.value), choice.why) for choice in own]
    return "\n".join(lines) + "\n"


def _line(name: str, value: str, why: str) -> str:
    *sections, key = name.split(".")
    text = f"{'  ' * len(sections)}{key}: {value}".rstrip()
    return f"{text:{_WIDTH}}# {why}" if len(text) < _WIDTH else f"{text}  # {why}"


def _value(value: object) -> str:
    if isinstance(value, float) and 0 < value < 1e-3:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits}e{int(exponent)}"
    return json.dumps(value, ensure_ascii=False)


def write_new(files: Mapping[Path, str]) -> None:
    """Writes new files that only their owner may read.

    Raises:
        UserError: a file exists or cannot be written.
    """
    for file, text in files.items():
        with system_errors(f"{file}: the file cannot be written", "Pass another DIR."):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
