"""The method of a run, in words."""

from collections.abc import Mapping
from typing import Any

# Methods of pmc_jax.config.method, as they are called.
LABELS = {
    "pmc": "PMC",
    "pmc_alignment": "PMC-alignment",
    "idk": "IDK",
    "retain_only": "retain-only",
    "gradient_ascent": "GA",
    "gradient_difference": "GD",
    "kl": "KL",
    "dpo": "DPO",
    "npo": "NPO",
    "simnpo": "SimNPO",
    "rmu": "RMU",
    "undial": "UNDIAL",
}


def method(run: Mapping[str, Any]) -> str:
    """Name of the method of a run."""
    return run["settings"]["method"]["name"]


def label(run: Mapping[str, Any]) -> str:
    """What the method of a run is called."""
    return LABELS[method(run)]


def samples(run: Mapping[str, Any]) -> bool:
    """Whether its method trains on the model's own answers."""
    return method(run) in ("pmc", "pmc_alignment")
