"""The measures by name: which rows they are made of, and the function that makes them."""

import dataclasses
from collections.abc import Callable, Mapping

from pmc_jax.config.run import EvaluateConfig
from pmc_jax.evaluation import (
    attacks,
    leakage,
    membership,
    memorisation,
    multiple_choice,
    perplexity,
    quality,
    side_effects,
    tofu,
)
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.evaluation.prompt_attacks import ATTACKS
from pmc_jax.evaluation.result import Label, Result, Rows

Summarise = Callable[[Rows, Rows | None, Rows | None, EvaluateConfig], Result]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        summarise: (own rows, those of the reference, those of the model before) -> numbers.
        labels: of the numbers.
        probes: names of `probes.PROBES`.
        sets: that it cannot do without.
    """

    summarise: Summarise
    labels: Mapping[str, Label]
    probes: tuple[str, ...]
    sets: tuple[str, ...] = ("forget",)

    def lacking(self, material: EvalContext) -> str | None:
        """Why it cannot be computed; None where it can."""
        lacking = [f"data.evaluate.{name}" for name in self.sets if name not in material.sets]
        if "relearned" in self.probes and material.relearn_rows is None:
            lacking.append("data.evaluate.relearn or data.retain")
        return f"{', '.join(lacking)} not given" if lacking else None


_PROMPT_LABELS = {
    **attacks.LABELS,
    **{name: label for attack in ATTACKS for name, label in attacks.labels_of(attack).items()},
}

MEASURES: Mapping[str, Measure] = {
    "quality": Measure(quality.of_rows, quality.LABELS, ("greedy",), ()),
    "tofu": Measure(tofu.summarise, tofu.LABELS, ("greedy", "likelihood")),
    "memorisation": Measure(memorisation.summarise, memorisation.LABELS, ("likelihood",)),
    "membership": Measure(
        membership.summarise, membership.LABELS, ("likelihood",), ("forget", "holdout")
    ),
    "multiple_choice": Measure(multiple_choice.summarise, multiple_choice.LABELS, ("likelihood",)),
    "sampling": Measure(leakage.summarise_sampling, leakage.LABELS, ("sampling",)),
    "prefill": Measure(leakage.summarise_prefill, leakage.LABELS, ("prefill",)),
    "side_effects": Measure(side_effects.summarise, side_effects.LABELS, ("text",)),
    "perplexity": Measure(perplexity.summarise, perplexity.LABELS, ("text",), ()),
    "prompt_attacks": Measure(
        attacks.summarise_prompts, _PROMPT_LABELS, ("greedy", "prompt_attacks")
    ),
    "quantised": Measure(attacks.summarise_quantised, attacks.LABELS, ("greedy", "quantised")),
    "relearned": Measure(attacks.summarise_relearned, attacks.LABELS, ("greedy", "relearned")),
}
