"""What collapse does to a distribution, exactly, and where a real run stands beside that.

A model that is refitted perfectly on what was chosen of its own samples is a distribution that one
map takes to the next. `collapse` has these maps, their limits and the theorem's bound for
categorical distributions; `probe` computes the same moments from the scores of a real run; `plots`
draws both. All is numpy in float64; no language model and no jax. That a round of training is an
exact refit is an assumption, which real runs with their gradient steps do not meet.
"""

from pmc_jax.theory.collapse import (
    COLOURS,
    FORGOTTEN,
    beside_bound,
    bound,
    conditioned,
    curated,
    curated_counts,
    exp_reward,
    lottery,
    mix,
    mixed,
    trajectory,
    zero_score_pick,
)
from pmc_jax.theory.probe import exact_refit, reward_moments

__all__ = [
    "COLOURS",
    "FORGOTTEN",
    "beside_bound",
    "bound",
    "conditioned",
    "curated",
    "curated_counts",
    "exact_refit",
    "exp_reward",
    "lottery",
    "mix",
    "mixed",
    "reward_moments",
    "trajectory",
    "zero_score_pick",
]
