"""Settings of `pmc plan`; part of the schema in `pmc_jax.config.run`."""

from __future__ import annotations

from dataclasses import dataclass

from pmc_jax.config.schema import Check, Section, at_least, setting


@dataclass(frozen=True)
class PlanConfig(Section):
    """The slice to compile for, and the size of the run where it cannot be read from the data.

    Fields:
        topology: the TPU slice, such as v5e:4x4 or v5p:4x4x4.
        num_slices: number of such slices, joined by the data-centre network.
        search: search for a mesh, a remat and micro-batches that fit, near those of the settings.
        file: the JSON file that the plan is written to.
        questions: number of questions to forget; 0 = as many as data.forget has rows.
        prompt_tokens: tokens of a question with its template.
        answer_tokens: tokens of an answer, on average.
        rows: packed rows of a micro-batch; 0 = as the trainer lays them out.
        row_tokens: tokens of a row; 0 = as the trainer lays them out, with one row of
            data.max_length.
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
