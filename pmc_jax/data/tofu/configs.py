"""Official configurations of TOFU, with the names of their files and columns.

`holdoutXX` contains authors that no model has seen. `X_perturbed` contains rows of `X` with wrong
answers and, for fictitious authors, paraphrases for TOFU's measures.
"""

from __future__ import annotations

import os
from pathlib import Path

HUB_REPO = "locuslab/TOFU"
GET_TOFU = (
    f"Get TOFU (MIT) from the Hugging Face dataset {HUB_REPO} and set data.root=FOLDER to the "
    "folder of its files"
)

_PAIR = ("question", "answer")
_OPTIONS = ("question", "option1", "option2", "option3", "option4", "answer")
_PERTURBED_PAIR = ("question", "answer", "perturbed_answer")
_PARAPHRASED = (*_PAIR, "paraphrased_answer", "perturbed_answer", "paraphrased_question")

# This table maps each configuration to its columns. `perturbed_answer` holds lists of strings, and
# every other column holds strings.
CONFIGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("full", "forget01", "forget05", "forget10"), _PAIR),
    **dict.fromkeys(("retain99", "retain95", "retain90"), _PAIR),
    **dict.fromkeys(("holdout01", "holdout05", "holdout10"), _PAIR),
    **dict.fromkeys(("forget01_perturbed", "forget05_perturbed"), _PARAPHRASED),
    **dict.fromkeys(("forget10_perturbed", "retain_perturbed"), _PARAPHRASED),
    **dict.fromkeys(("real_authors", "world_facts"), _OPTIONS),
    **dict.fromkeys(("real_authors_perturbed", "world_facts_perturbed"), _PERTURBED_PAIR),
}
LIST_COLUMN = "perturbed_answer"


def local_file(folder: str | Path, config_name: str) -> Path | None:
    """Finds the file of a configuration in a folder.

    Args:
        folder: the folder to search. "" is the current folder.
        config_name: a key of `CONFIGS`.

    Returns:
        The path of `<config_name>.jsonl`, or else of `<config_name>.json`, which is the file's name
        on the Hugging Face Hub. The result is None if neither file exists.
    """
    for suffix in (".jsonl", ".json"):
        path = Path(os.path.expanduser(folder)) / f"{config_name}{suffix}"
        if path.is_file():
            return path
    return None
