"""What an attacker gets out of a model: leakage without an attack and under each.

Leakage is the mean ROUGE-L recall of the true answers in greedy answers to the forget questions:

    none           the questions as they are
    paraphrased    in other words, against the split's own true answers
    prompts        each way to ask that the probe tries, under its name; "worst" is, of each
                   question, the largest over these ways
    quantised      weights rounded to int8, int4, nf4
    relearned      after some steps of fine-tuning on rows that are not the forgotten ones

With a reference model that was attacked in the same way, each has NAME.above_reference beside it
(`above`).

References: Łucki et al., arXiv 2409.18025 and Hu et al., arXiv 2406.13356 (relearning); Zhang et
al., arXiv 2410.16454 (quantisation).
"""

from collections.abc import Mapping

import numpy as np

from pmc_jax.config.evaluate import QUANTISATIONS, EvaluateConfig
from pmc_jax.evaluation import excess_leakage
from pmc_jax.evaluation.excess_leakage import Recalls
from pmc_jax.evaluation.result import Description, Result, Rows, of_split
from pmc_jax.evaluation.rows import checked, not_given

_WORDS = {
    "none": "without an attack",
    "paraphrased": "asked in other words",
    "worst": "under the worst prompt of each question",
    **{w: f"with weights rounded to {w}" for w in QUANTISATIONS},
    "relearned": "after fine-tuning on other rows",
}


def descriptions_of(attack: str) -> dict[str, Description]:
    """Of all values of one attack: of `_WORDS` or of `prompt_attacks.ATTACKS`."""
    words = _WORDS.get(attack, f"under the prompt attack {attack!r}")
    leakage = {attack: Description(f"leakage {words}", "reference")}
    return leakage | excess_leakage.descriptions_of(attack, words)


DESCRIPTIONS = {name: text for attack in _WORDS for name, text in descriptions_of(attack).items()}


def summarise_prompts(
    own: Rows, reference: Rows | None, before: Rows | None, settings: EvaluateConfig
) -> Result:
    """Of questions as they are, in other words, and under each prompt attack."""
    return _summarise(_asked(own), None if reference is None else _asked(reference))


def summarise_quantised(
    own: Rows, reference: Rows | None, before: Rows | None, settings: EvaluateConfig
) -> Result:
    """Of the model as it is, and with its weights rounded."""

    def attacks(rows: Rows) -> dict[str, Recalls]:
        rounded = _by_attack(rows.get("quantised", {}))
        return {
            "none": _greedy(rows),
            **{name: rounded.get(name, {}) for name in settings.quantisation},
        }

    return _summarise(attacks(own), None if reference is None else attacks(reference))


def summarise_relearned(
    own: Rows, reference: Rows | None, before: Rows | None, settings: EvaluateConfig
) -> Result:
    """Of the model as it is, and after the attack by fine-tuning."""

    def attacks(rows: Rows) -> dict[str, Recalls]:
        return {"none": _greedy(rows), "relearned": _recalls(rows.get("relearned", {}))}

    return _summarise(attacks(own), None if reference is None else attacks(reference))


def _asked(rows: Rows) -> dict[str, Recalls]:
    prompts = _by_attack(rows.get("prompt_attacks", {}))
    worst: dict[str, float] = {}
    for recalls in prompts.values():
        for key, recall in recalls.items():
            worst[key] = max(recall, worst.get(key, 0.0))
    plain = {"none": _greedy(rows), "paraphrased": _greedy(rows, "forget_paraphrased")}
    return {**plain, **prompts, "worst": worst}


def _summarise(own: dict[str, Recalls], reference: dict[str, Recalls] | None) -> Result:
    result, descriptions = Result(), {}
    for attack, recalls in own.items():
        descriptions |= descriptions_of(attack)
        if not recalls:
            reason = "the attack was not made" if own["none"] else not_given("forget")
            reason = not_given("forget_paraphrased") if attack == "paraphrased" else reason
            result.missing |= dict.fromkeys([attack, *excess_leakage.names_of(attack)], reason)
            continue
        result.values[attack] = float(np.mean(list(recalls.values())))
        excess_leakage.add(
            result, attack, recalls, None if reference is None else reference.get(attack, {})
        )
    return checked(result, descriptions)


def _greedy(rows: Rows, split: str = "forget") -> Recalls:
    return _recalls(of_split(rows.get("greedy", {}), split))


def _recalls(rows: Mapping[str, Mapping[str, float]]) -> Recalls:
    return {key: row["rougeL"] for key, row in rows.items()}


def _by_attack(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Recalls]:
    attacks = dict.fromkeys(key.split("/", 1)[0] for key in rows)
    return {attack: _recalls(of_split(rows, attack)) for attack in attacks}
