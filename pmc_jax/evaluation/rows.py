"""Rows: what tasks keep of a model, and how measures read them.

A task works question by question and can be interrupted and resumed at any of them; a measure is a
pure function of rows, of this model's and of a reference model's. Rows hold numbers; `text` is
the only text.

Rows = task -> key -> value, JSON:

    greedy      "SPLIT/ID"    {"rougeL": recall, "text": the answer, only where the log keeps text}
    likelihood  "SPLIT/ID"    {"answer": T, "paraphrased": T or None, "wrong": [T, ...] or None,
                               "zlib": bytes of the compressed answer}
                              T = {"logp": [of each answer token, the end token last],
                                   "is_argmax": [1 where no token is more likely, else 0],
                                   "min_k_plus_z": [(logp - mean) / deviation of the model's log
                                   p]}; the last two of "answer" alone
    sampling    "ID"          {"scores": [ROUGE-L recall of the true answer, each sample]}
    prefill     "ID"          {"scores": [the same of answers that were made to begin so]}
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
    """The rows "SPLIT/ID" of one split, by id, in their order."""
    start = f"{split}/"
    return {key[len(start) :]: value for key, value in rows.items() if key.startswith(start)}


def likelihood_of(rows: Rows | None, split: str) -> dict[str, Any]:
    """The likelihood rows of one split, by id."""
    return of_split((rows or {}).get("likelihood", {}), split)


def not_given(split: str) -> str:
    """Why a number is missing if the rows of its split are."""
    return f"data.evaluate.{split} is not given"


def mean_loss(text: Mapping[str, Any]) -> float:
    """Mean cross-entropy of a text's tokens, the end token included.

    Args:
        text: a T of likelihood rows.
    """
    return -float(np.mean(text["logp"]))


def unusable(rows: Mapping[str, Any], split: str) -> str:
    """Why likelihood rows of a split give no number; empty if they do.

    Of a diverged model, numbers that come from comparisons would not show it.
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
