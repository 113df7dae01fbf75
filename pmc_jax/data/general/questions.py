"""Reads the general questions that ship with the package in `general.jsonl`.

There are 80 facts of common knowledge and 40 instructions and turns of a conversation. All are in
English and in plain ASCII. The topics of each kind alternate, so the first rows of each split are a
mixture of topics. The smallest models do not know all answers: greedy answers of
SmolLM2-135M-Instruct state about 45 of the 80 facts.
"""

from __future__ import annotations

import functools
import importlib.resources
import json

from pmc_jax.data.check import check_split

SPLITS = ("facts", "instructions", "all")
_FILE = importlib.resources.files("pmc_jax.data.general") / "general.jsonl"


def rows(split: str = "all") -> list[dict[str, str]]:
    """Returns the rows of one split, with the columns id, question, answer and kind.

    The id is "general:<number>", where the number counts all rows from 0. The kind is "fact" or
    "instruction".

    Args:
        split: "facts", "instructions", or "all" for the facts and then the instructions.

    Raises:
        UserError: the split is unknown.
    """
    check_split("general", split, SPLITS)
    return [dict(row) for row in _all_rows() if split in ("all", f"{row['kind']}s")]


@functools.cache
def _all_rows() -> list[dict[str, str]]:
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return [{"id": f"general:{index}", **json.loads(line)} for index, line in enumerate(lines)]
