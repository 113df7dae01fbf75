"""What evaluation keeps of a model: rows, which probes ask the device for, and numbers of them.

A probe works question by question and is interrupted and resumed at any of them; a measure is a
pure function of rows, of this model's and of a reference model's. Rows hold numbers, no text (but
for `text`, where the log keeps text).

Rows = probe -> key -> value, JSON:

    greedy      "SPLIT/ID"    {"rougeL": recall, "rouge1": recall, "text": only if asked for}
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
    prompts     "ATTACK/ID"   {"rougeL": recall of the true answer}
    quantised   "WEIGHTS/ID"  {"rougeL": the same}
    relearned   "ID"          {"rougeL": the same}
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Description:
    """How people read a number.

    Attributes:
        text: what it is, a few words.
        better: lower | higher | reference (near that of a model that never saw the data) | "".
        unit: share (0 to 1, shown in percent) | points (0 to 100) | nats | p | "" (as it is).
    """

    text: str
    better: str = ""
    unit: str = "share"


@dataclasses.dataclass
class Result:
    """What one measure says of one model.

    Attributes:
        values: name -> number.
        missing: name -> why it was not computed: "no reference: ...".
        series: name -> what a plot draws, lists of numbers.
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    series: dict[str, Any] = dataclasses.field(default_factory=dict)


NO_REFERENCE = "no reference: name a model that never saw the forget rows in evaluate.reference"


def of_split(rows: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The rows "SPLIT/ID" of one split, by id, in their order."""
    start = f"{split}/"
    return {key[len(start) :]: value for key, value in rows.items() if key.startswith(start)}
