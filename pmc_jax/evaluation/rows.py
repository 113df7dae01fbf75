"""Rows: the results of tasks on a model, and how measures read them.

A task computes one row per question and can resume after any of them. A measure is a pure function
of the rows of a model and of a reference model. Rows contain numbers; `text` is the only text.

Rows = task -> key -> value, JSON:

    greedy      "SPLIT/ID"    {"rougeL": recall, "text": the answer, only with `log.text`}
    likelihood  "SPLIT/ID"    {"answer": T, "paraphrased": T or None, "wrong": [T, ...] or None,
                               "zlib": bytes of the compressed answer}
                              T = {"logp": [of each answer token, the end token last],
                                   "is_argmax": [1 where no token is more likely, else 0],
                                   "min_k_plus_z": [(logp - mean) / deviation of the model's log
                                   p]}; only "answer" has the last two
    sampling    "ID"          {"scores": [ROUGE-L recall of the true answer, each sample]}
    prefill     "ID"          {"scores": [the same, with dictated first words]}
    text        "chunk:N"     {"logp": [each token of unrelated text], "words": words in the chunk,
                               "forget": [1 where the token occurs in a forget answer, else 0]}
    prompt_attacks  "ATTACK/ID"   {"rougeL": recall of the true answer}
    quantised       "FORMAT/ID"   {"rougeL": the same}
    relearned       "ID"          {"rougeL": the same}
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import NOT_FINITE

Rows = Mapping[str, Mapping[str, Any]]


def of_split(rows: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The rows "SPLIT/ID" of one split, id -> row, in their order."""
    start = f"{split}/"
    return {key[len(start) :]: value for key, value in rows.items() if key.startswith(start)}


def likelihood_of(rows: Rows | None, split: str) -> dict[str, Any]:
    """The likelihood rows of one split, id -> row."""
    return of_split((rows or {}).get("likelihood", {}), split)


def not_given(split: str) -> str:
    """The reason for a missing number of a split without rows."""
    return f"data.evaluate.{split} is not given"


def mean_loss(text: Mapping[str, Any]) -> float:
    """Mean cross-entropy per token of a text, the end token included.

    Args:
        text: a T of likelihood rows.
    """
    return -float(np.mean(text["logp"]))


def unusable(rows: Mapping[str, Any], split: str) -> str:
    """The reason why likelihood rows of a split cannot be used; empty if they can.

    Numbers from comparisons would hide that a model has diverged.
    """
    if not rows:
        return not_given(split)
    is_finite = all(
        np.all(np.isfinite(text["logp"]))
        for row in rows.values()
        for text in (row["answer"], row["paraphrased"], *(row["wrong"] or ()))
        if text
    )
    return "" if is_finite else NOT_FINITE
