"""What collapse does to a distribution, exactly, and how a real run compares with that.

A model that is refitted perfectly on what was chosen of its own samples is a distribution that one
map takes to the next. `dynamics` has these maps, their limits and the theorem's bound for
categorical distributions; `reward_moments` computes the same moments from the scores of a real run.
All is numpy in float64; no language model and no jax. That a round of training is an exact refit is
an assumption, which real runs with their gradient steps do not meet.
"""
