"""Exact dynamics of collapse on a distribution, and the comparison of a real run with them.

If a model is refitted perfectly on selected samples of its own, its distribution follows a map from
round to round. `dynamics` has these maps, their limits and the theorem's bound for categorical
distributions. `reward_moments` computes the same moments from the scores of a real run. Both use
numpy in float64, without a language model or jax. That a round of training is an exact refit is an
assumption; real runs with their gradient steps do not satisfy it.
"""
