"""Lists all measures by name."""

import dataclasses
from collections.abc import Callable, Mapping

from pmc_jax.config.run import EvaluateConfig
from pmc_jax.evaluation import (
    attacks,
    honesty,
    indistinguishable,
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
from pmc_jax.evaluation.rows import Rows, not_given
from pmc_jax.evaluation.two_sample import missing_inputs

Summarise = Callable[[Rows, Rows | None, Rows | None, EvaluateConfig], Result]


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measure with its function, its inputs and descriptions of its numbers.

    Attributes:
        summarise: function that computes a result from the model's rows, the reference model's
            rows, the rows of the model before unlearning, and the settings. The second and the
            third argument are None if these models were not evaluated.
        descriptions: name of a number -> description.
        tasks: names in `tasks.TASKS` whose rows the measure reads.
        sets: names of required evaluation sets.
    """

    summarise: Summarise
    descriptions: Mapping[str, Description]
    tasks: tuple[str, ...]
    sets: tuple[str, ...] = ("forget",)

    def missing_inputs(self, context: EvalContext) -> str:
        """Returns the reason why the measure cannot be computed, or "" if no input is missing."""
        missing = [not_given(name) for name in self.sets if name not in context.sets]
        if "relearned" in self.tasks and context.relearn_rows is None:
            missing.append("neither data.evaluate.relearn nor data.retain is given")
        if "two_sample" in self.tasks and not missing:
            return missing_inputs(len(context.untrained), len(context.never_saw))
        return " and ".join(missing)


_LIKELIHOOD = ("likelihood",)

# A new measure also needs its name in `config/evaluate.py` and its texts in `report/texts.yaml`.
MEASURES: Mapping[str, Measure] = {
    "quality": Measure(quality.summarise, quality.DESCRIPTIONS, ("greedy",), ()),
    "honesty": Measure(honesty.summarise, honesty.DESCRIPTIONS, ("honesty",), ()),
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
    "indistinguishable": Measure(
        indistinguishable.summarise,
        indistinguishable.DESCRIPTIONS,
        ("two_sample",),
        ("forget_paraphrased",),
    ),
    **{
        name: Measure(summarise, attacks.DESCRIPTIONS, ("greedy", name))
        for name, summarise in (
            ("prompt_attacks", attacks.summarise_prompts),
            ("quantised", attacks.summarise_quantised),
            ("relearned", attacks.summarise_relearned),
        )
    },
}
