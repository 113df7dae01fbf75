"""The measures by name, each with the tasks whose rows it reads and its function."""

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
from pmc_jax.evaluation.result import Description, Result
from pmc_jax.evaluation.rows import Rows

Summarise = Callable[[Rows, Rows | None, Rows | None, EvaluateConfig], Result]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        summarise: (own rows, reference rows, rows of the model before, settings) -> numbers.
        descriptions: name of a number -> description.
        tasks: names in `tasks.TASKS` whose rows it reads.
        sets: names of required sets.
    """

    summarise: Summarise
    descriptions: Mapping[str, Description]
    tasks: tuple[str, ...]
    sets: tuple[str, ...] = ("forget",)

    def missing_inputs(self, context: EvalContext) -> str:
        """The reason why the measure cannot be computed; empty if it can."""
        missing = [f"data.evaluate.{name}" for name in self.sets if name not in context.sets]
        if "relearned" in self.tasks and context.relearn_rows is None:
            missing.append("data.evaluate.relearn or data.retain")
        return f"{', '.join(missing)} not given" if missing else ""


_LIKELIHOOD = ("likelihood",)

# To add a measure, also add its name to `config/evaluate.py` and its texts to `report/texts.yaml`.
MEASURES: Mapping[str, Measure] = {
    "quality": Measure(quality.summarise, quality.DESCRIPTIONS, ("greedy",), ()),
    "tofu": Measure(tofu.summarise, tofu.DESCRIPTIONS, ("greedy", "likelihood")),
    "memorisation": Measure(memorisation.summarise, memorisation.DESCRIPTIONS, _LIKELIHOOD),
    "membership": Measure(
        membership.summarise, membership.DESCRIPTIONS, _LIKELIHOOD, ("forget", "holdout")
    ),
    "multiple_choice": Measure(
        multiple_choice.summarise, multiple_choice.DESCRIPTIONS, _LIKELIHOOD
    ),
    "sampling": Measure(leakage.summarise_sampling, leakage.DESCRIPTIONS, ("sampling",)),
    "prefill": Measure(leakage.summarise_prefill, leakage.DESCRIPTIONS, ("prefill",)),
    "side_effects": Measure(side_effects.summarise, side_effects.DESCRIPTIONS, ("text",)),
    "perplexity": Measure(perplexity.summarise, perplexity.DESCRIPTIONS, ("text",), ()),
    **{
        name: Measure(summarise, attacks.DESCRIPTIONS, ("greedy", name))
        for name, summarise in (
            ("prompt_attacks", attacks.summarise_prompts),
            ("quantised", attacks.summarise_quantised),
            ("relearned", attacks.summarise_relearned),
        )
    },
}
