"""What an attacker gets out of a model: leakage without an attack and under each.

Leakage is the mean ROUGE-L recall of the true answers in greedy answers to the forget questions:

    none           the questions as they are
    paraphrased    in other words, against the split's own true answers
    prompts        each way to ask of `prompt_attacks`, under its name; "worst" is, of each
                   question, the largest over these ways
    quantised      weights rounded to int8, int4, nf4
    relearned      after some steps of fine-tuning on rows that are not the forgotten ones

With a reference model that was attacked in the same way, each has NAME.above_reference beside it
(`excess_leakage`).

References: Łucki et al., arXiv 2409.18025 and Hu et al., arXiv 2406.13356 (relearning); Zhang et
al., arXiv 2410.16454 (quantisation).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pmc_jax.config.evaluate import QUANTISATIONS, EvaluateConfig
from pmc_jax.evaluation import excess_leakage
from pmc_jax.evaluation.excess_leakage import Recalls
from pmc_jax.evaluation.prompt_attacks import ATTACKS
from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, not_given, of_split

_WORDS = {
    "none": "without an attack",
    "paraphrased": "asked in other words",
    "worst": "under the worst prompt of each question",
    **{w: f"with weights rounded to {w}" for w in QUANTISATIONS},
    "relearned": "after fine-tuning on other rows",
}


def descriptions_of(attack: str) -> dict[str, Description]:
    """Of all numbers of one attack, of `_WORDS` or `prompt_attacks.ATTACKS`."""
    words = _WORDS.get(attack, f"under the prompt attack {attack!r}")
    leakage = {attack: Description(f"leakage {words}", "reference")}
    return leakage | excess_leakage.descriptions_of(attack, words)


DESCRIPTIONS = {
    name: text for attack in (*_WORDS, *ATTACKS) for name, text in descriptions_of(attack).items()
}


def summarise_prompts(own: Rows, reference: Rows | None, *_: Any) -> Result:
    """Of questions as they are, in other words, and under each prompt attack."""

    def recalls(rows: Rows) -> dict[str, Recalls]:
        prompts = _by_attack(rows.get("prompt_attacks", {}))
        worst: dict[str, float] = {}
        for of_prompt in prompts.values():
            for key, recall in of_prompt.items():
                worst[key] = max(recall, worst.get(key, 0.0))
        return {"paraphrased": _greedy(rows, "forget_paraphrased"), **prompts, "worst": worst}

    return _summarise(recalls, own, reference)


def summarise_quantised(
    own: Rows, reference: Rows | None, before: Rows | None, settings: EvaluateConfig
) -> Result:
    """Of the model as it is, and with its weights rounded."""

    def recalls(rows: Rows) -> dict[str, Recalls]:
        rounded = _by_attack(rows.get("quantised", {}))
        return {name: rounded.get(name, {}) for name in settings.quantisation}

    return _summarise(recalls, own, reference)


def summarise_relearned(own: Rows, reference: Rows | None, *_: Any) -> Result:
    """Of the model as it is, and after the attack by fine-tuning."""
    return _summarise(
        lambda rows: {"relearned": _recalls(rows.get("relearned", {}))}, own, reference
    )


def _summarise(
    attacked: Callable[[Rows], dict[str, Recalls]], own: Rows, reference: Rows | None
) -> Result:
    """The leakage of each attack, and of none.

    Args:
        attacked: rows of a model -> attack -> recalls under it.
    """
    numbers: dict[str, float | str] = {}
    descriptions: dict[str, Description] = {}
    plain = _greedy(own)
    others = None if reference is None else {"none": _greedy(reference)} | attacked(reference)
    for attack, recalls in ({"none": plain} | attacked(own)).items():
        described = descriptions_of(attack)
        descriptions |= described
        if recalls:
            other = None if others is None else others.get(attack, {})
            numbers[attack] = np.mean(list(recalls.values()))
            numbers |= excess_leakage.numbers_of(attack, recalls, other)
        else:
            reason = "the attack was not made" if plain else not_given("forget")
            reason = not_given("forget_paraphrased") if attack == "paraphrased" else reason
            numbers |= dict.fromkeys(described, reason)
    return Result.of(numbers, descriptions)


def _greedy(rows: Rows, split: str = "forget") -> Recalls:
    return _recalls(of_split(rows.get("greedy", {}), split))


def _recalls(rows: Mapping[str, Mapping[str, float]]) -> Recalls:
    return {key: row["rougeL"] for key, row in rows.items()}


def _by_attack(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Recalls]:
    attacks = dict.fromkeys(key.split("/", 1)[0] for key in rows)
    return {attack: _recalls(of_split(rows, attack)) for attack in attacks}
