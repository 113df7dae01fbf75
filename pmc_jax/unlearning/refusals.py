"""Answers that decline: what some methods train on in place of the secret."""

from pmc_jax.method_config import MethodConfig
from pmc_jax.unlearning.losses import METHODS

I_DO_NOT_KNOW = ("I don't know.",)


def refusals_for(settings: MethodConfig) -> tuple[str, ...]:
    """The refusals of a method; none where it trains on none."""
    if "refusal" not in METHODS[settings.name].terms:
        return ()
    return I_DO_NOT_KNOW
