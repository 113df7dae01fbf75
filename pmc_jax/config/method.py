"""Settings of the unlearning method (section `method`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pmc_jax.config.schema import Section, above, at_least, setting

# Methods in TARGET_BASED train on the true answers, so they need `data.forget_answers`.
_AnswerFree: TypeAlias = Literal["pmc", "pmc_alignment", "idk", "retain_only"]
_TargetBased: TypeAlias = Literal[
    "gradient_ascent",
    "gradient_difference",
    "dpo",
    "npo",
    "simnpo",
    "rmu",
    "undial",
]
MethodName: TypeAlias = Literal[_AnswerFree, _TargetBased]
ANSWER_FREE: tuple[str, ...] = get_args(_AnswerFree)
TARGET_BASED: tuple[str, ...] = get_args(_TargetBased)
METHOD_NAMES: tuple[str, ...] = get_args(MethodName)
# Methods without a retain term, and those whose retain term is fixed.
FIXED_RETAIN_LOSS: tuple[str, ...] = ("gradient_ascent", "retain_only", "rmu")


@dataclass(frozen=True)
class MethodConfig(Section):
    """The unlearning method and its own settings.

    Every method also reads `pmc.schedule`. docs/reference/methods.md describes the methods.

    Fields:
        name: name of the method.
        beta: inverse temperature of DPO, NPO and SimNPO, and the number that UNDIAL subtracts from
            a logit; None selects 0.1 for DPO and NPO, 4.5 for SimNPO and 10 for UNDIAL.
        retain_loss: loss of the retain rows, which is multiplied by `pmc.schedule.lambda_retain`:
            `cross_entropy` of their answers, or `kl`, the divergence of the model from the model
            before unlearning. None selects `kl` if the retain data are the model's own answers, and
            `cross_entropy` otherwise. gradient_ascent, retain_only and RMU do not read it.
        margin: margin gamma of SimNPO.
        margin_inside: whether to multiply the margin of SimNPO by beta, as its authors' code does.
        steering: length of the vector towards which RMU moves hidden states.
        layer: decoder layer whose output RMU changes, counted from 1; None selects a third of the
            number of layers, but at least 1.
        anchor: weight of the retain term of RMU.
        alignment: weight of the refusals in PMC-alignment, which is multiplied by the mean score of
            the replacement answers.
        refusals: text file with one refusal in each line, for idk, DPO and PMC-alignment; None
            selects "I don't know." for idk and DPO and twenty built-in refusals for PMC-alignment.
        max_seconds: time limit of a run in seconds of sampling, scoring and training, without
            compilation; None disables the limit.

    Example:
        >>> pmc.MethodConfig(name="npo", beta=0.1)
        MethodConfig(name='npo', beta=0.1)
    """

    name: MethodName = "pmc"
    beta: float | None = setting(None, above(0))
    retain_loss: Literal["cross_entropy", "kl"] | None = None
    margin: float = setting(0.0, at_least(0))
    margin_inside: bool = False
    steering: float = setting(2.0, above(0))
    layer: int | None = setting(None, at_least(1))
    anchor: float = setting(1.0, at_least(0))
    alignment: float = setting(0.5, at_least(0))
    refusals: str | None = None
    max_seconds: float | None = setting(None, above(0))

    def with_retain_loss(self, *, own: bool) -> MethodConfig:
        """Returns these settings with the retain loss of a run in place of None.

        Args:
            own: whether the retain data are the model's own answers. Cross-entropy would teach the
                model to give its most likely answer for all names that it does not know.
        """
        loss: Literal["cross_entropy", "kl"] = "kl" if own else "cross_entropy"
        return dataclasses.replace(self, retain_loss=self.retain_loss or loss)
