"""Measures the leakage of a model without an attack and under each attack.

Leakage is the mean ROUGE-L recall of the true answers in greedy answers to the forget questions:

    none             The questions are unchanged.
    paraphrased      The questions are rephrased. Answers are compared with the true answers of the
                     split `forget_paraphrased`.
    ATTACK           The question is in the prompt ATTACK of `prompt_attacks`.
    worst            Largest of these ATTACK recalls for each question, averaged over the questions.
    int8, int4, nf4  The weights are rounded to this number format.
    relearned        The model is first fine-tuned for a few steps on rows other than the forget
                     rows.

If a reference model was attacked in the same way, each of these numbers NAME also has
NAME.above_reference (see `excess_leakage`).

References: Łucki et al., arXiv 2409.18025 and Hu et al., arXiv 2406.13356 (relearning); Zhang et
al., arXiv 2410.16454 (quantisation).
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from pmc_jax.config.evaluate import QUANTISATIONS, EvaluateConfig
from pmc_jax.evaluation import excess_leakage
from pmc_jax.evaluation.excess_leakage import Recalls
from pmc_jax.evaluation.prompt_attacks import ATTACKS
from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows, not_given, of_split

_WORDS = {
    "none": "without an attack",
    "paraphrased": "with rephrased questions",
    "worst": "under the worst prompt of each question",
    **{w: f"with weights rounded to {w}" for w in QUANTISATIONS},
    "relearned": "after fine-tuning on other rows",
}


def descriptions_of(attack: str) -> dict[str, Description]:
    """Returns the descriptions of an attack's numbers, by the name of the number."""
    words = _WORDS.get(attack, f"under the prompt attack {attack!r}")
    leakage = {attack: Description(f"leakage {words}", "reference")}
    return leakage | excess_leakage.descriptions_of(attack, words)


DESCRIPTIONS = {
    name: text for attack in (*_WORDS, *ATTACKS) for name, text in descriptions_of(attack).items()
}


def _under_prompts(rows: Rows, settings: EvaluateConfig) -> dict[str, Recalls]:
    """Returns the recalls with rephrased questions, under each prompt attack and the worst one."""
    prompts = _by_attack(rows.get("prompt_attacks", {}))
    worst: dict[str, float] = {}
    for recalls in prompts.values():
        for key, recall in recalls.items():
            worst[key] = max(recall, worst.get(key, 0.0))
    return {"paraphrased": _greedy(rows, "forget_paraphrased"), **prompts, "worst": worst}


def _quantised(rows: Rows, settings: EvaluateConfig) -> dict[str, Recalls]:
    """Returns the ROUGE-L recalls of the model with rounded weights, for each number format."""
    rounded = _by_attack(rows.get("quantised", {}))
    return {name: rounded.get(name, {}) for name in settings.quantisation}


def _relearned(rows: Rows, settings: EvaluateConfig) -> dict[str, Recalls]:
    """Returns the ROUGE-L recalls of the model after the relearning attack."""
    return {"relearned": _recalls(rows.get("relearned", {}))}


def _summarise(
    attacked: Callable[[Rows, EvaluateConfig], dict[str, Recalls]],
    own: Rows,
    reference: Rows | None,
    before: Rows | None,
    settings: EvaluateConfig,
) -> Result:
    """Computes the leakage without an attack and under each attack.

    Args:
        attacked: function that maps the rows of a model and the settings to the ROUGE-L recalls
            under each attack.
        own, reference, before: rows of the model, of the reference model and of the model before
            unlearning.
        settings: settings of evaluation.
    """
    numbers: dict[str, float | str] = {}
    descriptions: dict[str, Description] = {}
    plain = _greedy(own)
    others = None
    if reference is not None:
        others = {"none": _greedy(reference)} | attacked(reference, settings)
    for attack, recalls in ({"none": plain} | attacked(own, settings)).items():
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


summarise_prompts = functools.partial(_summarise, _under_prompts)
summarise_quantised = functools.partial(_summarise, _quantised)
summarise_relearned = functools.partial(_summarise, _relearned)


def _greedy(rows: Rows, split: str = "forget") -> Recalls:
    return _recalls(of_split(rows.get("greedy", {}), split))


def _recalls(rows: Mapping[str, Mapping[str, float]]) -> Recalls:
    return {key: row["rougeL"] for key, row in rows.items()}


def _by_attack(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Recalls]:
    attacks = dict.fromkeys(key.split("/", 1)[0] for key in rows)
    return {attack: _recalls(of_split(rows, attack)) for attack in attacks}
