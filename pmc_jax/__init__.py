"""pmc_jax."""
