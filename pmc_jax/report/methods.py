"""The method of a run, in words."""

from collections.abc import Mapping
from typing import Any

from pmc_jax.report.texts import TEXTS

LABELS: Mapping[str, str] = TEXTS["methods"]  # of config.method.METHODS


def method(run: Mapping[str, Any]) -> str:
    """Name of the method of a run."""
    return run["settings"]["method"]["name"]


def label(run: Mapping[str, Any]) -> str:
    """What the method of a run is called."""
    return LABELS[method(run)]


def samples(run: Mapping[str, Any]) -> bool:
    """Whether its method trains on the model's own answers."""
    return method(run) in ("pmc", "pmc_alignment")
