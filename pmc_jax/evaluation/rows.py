"""Describes rows, the results of tasks on a model, and defines functions that read rows.

A measure is a pure function of the settings and of the rows of up to three models: the model, the
reference model and the model before unlearning. Only the field `text` holds text of a model.

`Rows` maps task -> key -> JSON value. T stands for the scores of one text:

    T = {"logp": [log p of each answer token, the end token last],
         "is_argmax": [1 if no token is more likely, else 0],
         "min_k_plus_z": [(log p - m) / s with the mean m and the standard deviation s of the
                          log-probability of a token that is drawn from the model]}

Only "answer" has "is_argmax" and "min_k_plus_z". If `log.text` is true, rows with "rougeL" also
have "text", the answer.

    greedy      "SPLIT/ID"    {"rougeL": recall of the true answer}
    honesty     "SPLIT/ID"    {"abstains": whether the answer is an abstention,
                               "invents": whether it has an invented fact,
                               "kind": digest of its words without those of the question,
                               "names": whether it names the subject, or None without a subject}
    likelihood  "SPLIT/ID"    {"answer": T, "paraphrased": T or None, "wrong": [T, ...] or None,
                               "zlib": size of the compressed answer in bytes}
    sampling    "ID"          {"scores": [recall of the true answer in each sample]}
    prefill     "ID"          {"scores": [recall in each sample after given first words]}
    text        "chunk:N"     {"logp": [log p of each token of unrelated text],
                               "words": number of words in the chunk,
                               "forget": [1 if the token occurs in a forget answer, else 0]}
    prompt_attacks  "ATTACK/ID"   {"rougeL": recall of the true answer under the attack}
    quantised       "FORMAT/ID"   {"rougeL": recall of the true answer with rounded weights}
    relearned       "ID"          {"rougeL": recall of the true answer after relearning}
    two_sample      "test"        fields of `two_sample.TwoSample`
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import NOT_FINITE

Rows = Mapping[str, Mapping[str, Any]]


def of_split(rows: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Returns id -> row for the rows of one split, which are the rows with a key "SPLIT/ID"."""
    start = f"{split}/"
    return {key[len(start) :]: value for key, value in rows.items() if key.startswith(start)}


def likelihood_of(rows: Rows | None, split: str) -> dict[str, Any]:
    """Returns the likelihood rows of one split as id -> row."""
    return of_split((rows or {}).get("likelihood", {}), split)


def not_given(split: str) -> str:
    """Returns the reason for a number that is missing because its split has no rows."""
    return f"data.evaluate.{split} is not given"


def mean_loss(text: Mapping[str, Any]) -> float:
    """Returns the mean cross-entropy per token of a text, with the end token.

    Args:
        text: scores of the text, in the form T that the module docstring defines.
    """
    return -float(np.mean(text["logp"]))


def unusable(rows: Mapping[str, Any], split: str) -> str:
    """Returns the reason why the likelihood rows of a split are unusable, or "" if they are usable.

    Rows with non-finite values are unusable, because numbers that only compare rows would hide that
    a model has diverged.
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
