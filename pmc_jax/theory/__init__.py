"""Exact dynamics of collapse on a distribution, and their comparison with a real run.

If a model is refitted perfectly on selected samples of its own, its distribution follows a map from
round to round. For categorical distributions, `dynamics` computes these maps, their limits and a
lower bound on E[e^r] (arXiv 2407.09499), where r is the reward. `reward_moments` computes the
moments in this bound for a real run. Both modules use numpy in float64, without a language model or
jax. The theory assumes that every round of training is an exact refit, but the gradient steps of a
real run do not satisfy this assumption.
"""
