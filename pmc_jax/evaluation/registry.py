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
from pmc_jax.evaluation.result import Description, Result, Rows

Summarise = Callable[[Rows, Rows | None, Rows | None, EvaluateConfig], Result]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        summarise: (own rows, those of the reference, those of the model before) -> numbers.
        descriptions: of the numbers.
        tasks: names of `tasks.TASKS` whose rows it is made of.
        sets: that it cannot do without.
    """

    summarise: Summarise
    descriptions: Mapping[str, Description]
    tasks: tuple[str, ...]
    sets: tuple[str, ...] = ("forget",)

    def missing_inputs(self, context: EvalContext) -> str:
        """Why it cannot be computed; empty if it can."""
        missing = [f"data.evaluate.{name}" for name in self.sets if name not in context.sets]
        if "relearned" in self.tasks and context.relearn_rows is None:
            missing.append("data.evaluate.relearn or data.retain")
        return f"{', '.join(missing)} not given" if missing else ""


_PROMPT_DESCRIPTIONS = {
    **attacks.DESCRIPTIONS,
    **{name: text for attack in ATTACKS for name, text in attacks.descriptions_of(attack).items()},
}

MEASURES: Mapping[str, Measure] = {
    "quality": Measure(quality.of_rows, quality.DESCRIPTIONS, ("greedy",), ()),
    "tofu": Measure(tofu.summarise, tofu.DESCRIPTIONS, ("greedy", "likelihood")),
    "memorisation": Measure(memorisation.summarise, memorisation.DESCRIPTIONS, ("likelihood",)),
    "membership": Measure(
        membership.summarise, membership.DESCRIPTIONS, ("likelihood",), ("forget", "holdout")
    ),
    "multiple_choice": Measure(
        multiple_choice.summarise, multiple_choice.DESCRIPTIONS, ("likelihood",)
    ),
    "sampling": Measure(leakage.summarise_sampling, leakage.DESCRIPTIONS, ("sampling",)),
    "prefill": Measure(leakage.summarise_prefill, leakage.DESCRIPTIONS, ("prefill",)),
    "side_effects": Measure(side_effects.summarise, side_effects.DESCRIPTIONS, ("text",)),
    "perplexity": Measure(perplexity.summarise, perplexity.DESCRIPTIONS, ("text",), ()),
    "prompt_attacks": Measure(
        attacks.summarise_prompts, _PROMPT_DESCRIPTIONS, ("greedy", "prompt_attacks")
    ),
    "quantised": Measure(
        attacks.summarise_quantised, attacks.DESCRIPTIONS, ("greedy", "quantised")
    ),
    "relearned": Measure(
        attacks.summarise_relearned, attacks.DESCRIPTIONS, ("greedy", "relearned")
    ),
}
