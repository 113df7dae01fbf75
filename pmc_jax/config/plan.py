"""Settings of `pmc plan`; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.schema import Check, Section, at_least, setting


@dataclass(frozen=True)
class PlanConfig(Section):
    """The TPU slice to compile for, and the size of the run where the data do not give it.

    Fields:
        topology: the TPU slice, such as v5e:4x4 or v5p:4x4x4.
        num_slices: number of these slices, joined by the data-centre network.
        search: search near the settings for a mesh, a remat policy and micro-batches that fit.
        file: the JSON file for the plan.
        questions: number of questions to forget; 0 = the number of rows in data.forget.
        prompt_tokens: tokens of a question with its template.
        answer_tokens: mean number of tokens of an answer.
        rows: packed rows per micro-batch; 0 = as the trainer packs them.
        row_tokens: tokens per packed row; 0 = as the trainer packs them, with one row of
            data.max_length tokens.
    """

    topology: str | None = setting(None, Check("a slice such as v5e:4x4", bool))
    num_slices: int = setting(1, at_least(1))
    search: bool = False
    file: str = setting("plan.json", Check("a file name", bool))
    questions: int = setting(0, at_least(0))
    prompt_tokens: int = setting(64, at_least(1))
    answer_tokens: int = setting(48, at_least(1))
    rows: int = setting(0, at_least(0))
    row_tokens: int = setting(0, at_least(0))
