"""Settings of `pmc plan` (section `plan`)."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.paths import output_setting
from pmc_jax.config.schema import Check, Section, between, setting


@dataclass(frozen=True)
class PlanConfig(Section):
    """The TPU slice for which `pmc plan` compiles, and the assumed size of the data.

    Fields:
        topology: TPU slice, such as v5e:4x4 or v5p:4x4x4.
        num_slices: number of slices, which the data-centre network joins.
        search: whether to also try similar meshes, remat policies and micro-batches to find
            settings that fit into memory.
        file: JSON file for the plan.
        questions: number of forget questions; 0 selects the number of rows in `data.forget`.
        prompt_tokens: number of tokens in a prompt.
        answer_tokens: mean number of tokens in an answer.
        rows: number of packed rows in a micro-batch; 0 selects the number that the trainer packs.
        row_tokens: number of tokens in a packed row; 0 selects the number that the trainer packs if
            one row has `data.max_length` tokens.

    Example:
        >>> pmc.PlanConfig(topology="v5e:4x4")
        PlanConfig(topology='v5e:4x4')
    """

    topology: str | None = setting(None, Check("the name of a TPU slice, such as v5e:4x4", bool))
    num_slices: int = setting(1, between(1, 10_000))
    search: bool = False
    file: str = output_setting("plan.json", Check("a file name", bool))
    questions: int = setting(0, between(0, 10**9))
    prompt_tokens: int = setting(64, between(1, 10**6))
    answer_tokens: int = setting(48, between(1, 10**6))
    rows: int = setting(0, between(0, 10**6))
    row_tokens: int = setting(0, between(0, 10**6))
