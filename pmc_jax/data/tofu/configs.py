"""The official configurations of TOFU: the names of their files and columns.

`holdoutXX` has unseen authors; `X_perturbed` has the rows of `X` with paraphrases and wrong answers
for the measures of TOFU.
"""

from __future__ import annotations

from pathlib import Path

HUB_REPO = "locuslab/TOFU"
GET_TOFU = (
    f"get TOFU (MIT) from the Hugging Face dataset {HUB_REPO} and set data.root=FOLDER to the "
    "folder of its files"
)

_PAIR = ("question", "answer")
_OPTIONS = ("question", "option1", "option2", "option3", "option4", "answer")
_PERTURBED_PAIR = ("question", "answer", "perturbed_answer")
_PARAPHRASED = (*_PAIR, "paraphrased_answer", "perturbed_answer", "paraphrased_question")

# Configuration name -> its columns. `perturbed_answer` is a list of strings, the others strings.
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
    """The file of a configuration in `folder`, under either of its usual names.

    Args:
        folder: where to look; "" is the current folder.
        config_name: a key of `CONFIGS`.

    Returns:
        `<config>.jsonl`, else `<config>.json` (the hub's name for the same JSON Lines), else None.
    """
    for suffix in (".jsonl", ".json"):
        path = Path(folder).expanduser() / f"{config_name}{suffix}"
        if path.is_file():
            return path
    return None
