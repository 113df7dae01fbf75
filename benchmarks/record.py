"""The last line of every benchmark: one JSON object."""

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import jax

from pmc_jax.output import versions


def print_record(
    benchmark: str, unit: str, rates: Sequence[float], options: argparse.Namespace, **figures: Any
) -> None:
    """Prints the spread of the repeated rates with their shape, model, devices and versions."""
    spread = {"min": min(rates), "median": statistics.median(rates), "max": max(rates)}
    record = {
        "benchmark": benchmark,
        unit: spread,
        **figures,
        "shape": {k: v for k, v in vars(options).items() if k != "model"},
        "model": options.model,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
    }
    print(json.dumps(record))
