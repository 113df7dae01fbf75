"""Prints the last output line of every benchmark, which is a JSON object."""

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import jax

from pmc_jax.artifacts.run_folder import versions
from pmc_jax.distributed import multihost


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Returns the minimum, the median and the maximum of some numbers."""
    return {"min": min(numbers), "median": statistics.median(numbers), "max": max(numbers)}


def print_record(benchmark: str, options: argparse.Namespace, **figures: Any) -> None:
    """Prints figures, options, devices and versions as JSON, in the first process only."""
    if not multihost.is_first():
        return
    record = {
        "benchmark": benchmark,
        **figures,
        "options": {k: v for k, v in vars(options).items() if not k.startswith("against_")},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
    }
    print(json.dumps(record))
