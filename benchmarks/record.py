"""The last line of every benchmark: one JSON object."""

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import jax

from pmc_jax.artifacts.run_folder import versions
from pmc_jax.distributed import multihost


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(numbers), "median": statistics.median(numbers), "max": max(numbers)}


def print_record(benchmark: str, options: argparse.Namespace, **figures: Any) -> None:
    """Prints the figures with their shape, devices and versions, in the first process."""
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
