"""Returns the names of methods as the pages show them."""

from collections.abc import Mapping
from typing import Any

from pmc_jax.report.texts import TEXTS

LABELS: Mapping[str, str] = TEXTS["methods"]  # of config.method.METHOD_NAMES


def method(run: Mapping[str, Any]) -> str:
    """Returns the setting `method.name` of a run."""
    return run["settings"]["method"]["name"]


def label(run: Mapping[str, Any]) -> str:
    """Returns the name of a run's method as the pages show it."""
    return LABELS[method(run)]


def samples(run: Mapping[str, Any]) -> bool:
    """Returns whether the method of a run trains on the model's own answers."""
    return method(run) in ("pmc", "pmc_alignment")
