"""Settings of the unlearning method (section `method`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pmc_jax.config.schema import Section, above, at_least, setting

# Methods in TARGET_BASED train on the true answers, so they need `data.forget_answers`.
_AnswerFree: TypeAlias = Literal["pmc", "pmc_alignment", "idk", "retain_only"]
_TargetBased: TypeAlias = Literal[
    "gradient_ascent",
    "gradient_difference",
    "kl",
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


@dataclass(frozen=True)
class MethodConfig(Section):
    """The unlearning method and its own settings.

    Every method also reads `pmc.schedule`. docs/reference/methods.md describes the methods.

    Fields:
        name: name of the method.
        beta: inverse temperature of DPO, NPO and SimNPO, and the number that UNDIAL subtracts from
            a logit; None selects 0.1 for DPO and NPO, 4.5 for SimNPO and 10 for UNDIAL.
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
    margin: float = setting(0.0, at_least(0))
    margin_inside: bool = False
    steering: float = setting(2.0, above(0))
    layer: int | None = setting(None, at_least(1))
    anchor: float = setting(1.0, at_least(0))
    alignment: float = setting(0.5, at_least(0))
    refusals: str | None = None
    max_seconds: float | None = setting(None, above(0))
