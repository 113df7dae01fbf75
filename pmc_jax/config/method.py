"""Settings of the unlearning method; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.schema import Section, above, at_least, one_of, setting

# TARGET_BASED methods train on the true answers, so they need `data.forget_answers`.
ANSWER_FREE = ("pmc", "pmc_alignment", "idk", "retain_only")
TARGET_BASED = (
    "gradient_ascent",
    "gradient_difference",
    "kl",
    "dpo",
    "npo",
    "simnpo",
    "rmu",
    "undial",
)
METHOD_NAMES = ANSWER_FREE + TARGET_BASED


@dataclass(frozen=True)
class MethodConfig(Section):
    """The unlearning method, and settings that only some methods read; see
    `pmc_jax.training.losses`. All methods read `pmc.schedule`.

    Fields:
        name: the method.
        beta: beta of DPO and NPO (inverse temperature), SimNPO and UNDIAL; None = 0.1 for DPO and
            NPO, 4.5 for SimNPO, 10 for UNDIAL.
        margin: gamma of SimNPO.
        margin_inside: multiply SimNPO's margin by beta too, as in its authors' code.
        steering: length of the vector that RMU steers hidden states to.
        layer: decoder layer, from 1, that RMU steers; None = a third of the number of layers, at
            least 1.
        anchor: weight of RMU's retain term.
        alignment: weight of the refusals in PMC-alignment, multiplied by the mean stored score.
        refusals: file of answers, one per line, that idk, DPO and PMC-alignment train on; None = "I
            don't know." for idk and DPO, twenty answers in the package for PMC-alignment.
        max_seconds: the run stops after this many seconds of sampling, scoring and training,
            compilation excluded; None = no limit.
    """

    name: str = setting("pmc", one_of(*METHOD_NAMES))
    beta: float | None = setting(None, above(0))
    margin: float = setting(0.0, at_least(0))
    margin_inside: bool = False
    steering: float = setting(2.0, above(0))
    layer: int | None = setting(None, at_least(1))
    anchor: float = setting(1.0, at_least(0))
    alignment: float = setting(0.5, at_least(0))
    refusals: str | None = None
    max_seconds: float | None = setting(None, above(0))
