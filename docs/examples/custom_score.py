"""Unlearns with a score of one's own, which rejects every sample that names a forbidden thing.

    python custom_score.py MODEL [section.key=value ...]

PMC keeps the sample with the lowest score. In a YAML file, `pmc.score.name: custom_score:mentions`
selects the same function.
"""

import sys
from collections.abc import Sequence

import numpy as np

import pmc_jax as pmc

FORBIDDEN = ("springfield", "jane", "roe")
FORGET = ["Where does Jane Roe live?", "Who is Jane Roe?"]
RETAIN = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("Which gas do plants take in?", "Plants take in carbon dioxide."),
]


def mentions(original: str, samples: Sequence[str]) -> np.ndarray:
    """Returns the share of the forbidden words that each sample contains, float [K].

    Words of the original answer count too, so that an answer that says the same is not kept.
    """
    forbidden = {*FORBIDDEN, *original.lower().split()}
    words = [set(sample.lower().split()) for sample in samples]
    return np.array([len(forbidden & said) / len(forbidden) for said in words])


# The score never falls as an answer grows, so samples that cannot be selected end early.
mentions.lower_bound = mentions


def main(model: str, *overrides: str) -> None:
    config = pmc.load_config("quickstart", overrides)
    result = pmc.unlearn(pmc.load(model), FORGET, RETAIN, config=config, score=mentions)
    for question, id_ in zip(FORGET, result.scores, strict=True):
        print(f"{question} -> {result.replacements[id_]} (score {result.scores[id_]:.2f})")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except pmc.UserError as error:
        sys.exit(f"custom_score.py: {error}")
