"""Benchmarks on meshes and in several processes: the flags, and figures of one chip."""

import argparse
import os
from typing import Any

import jax
from jax.sharding import Mesh

from pmc_jax.distributed import launch
from pmc_jax.distributed.mesh import make_mesh
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.parameters import num_parameters
from pmc_jax.planning.chips import CHIPS

_TIMEOUT_SECONDS = 300.0  # after which a silent process counts as dead


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, those of the mesh added; joins the other processes where there are some."""
    for axis in ("fsdp", "tensor"):
        parser.add_argument(f"--{axis}", type=int, default=1, help="devices on this mesh axis")
    launch.add_flags(parser)
    options = parser.parse_args()
    if (spec := launch.process_spec(options, os.environ)) is not None:
        if getattr(options, "against", None):
            parser.error("--against: in one process; leave out the flags of several")
        launch.join(spec, _TIMEOUT_SECONDS)
    return options


def mesh(options: argparse.Namespace) -> Mesh:
    return make_mesh(-1, options.fsdp, options.tensor)


def per_chip(rate: float, config: DecoderConfig, flops_a_parameter: int) -> dict[str, Any]:
    """A rate in tokens a second, of one chip and beside its published peak.

    Args:
        flops_a_parameter: of a token, 6 to train on it and 2 to generate it.

    Returns:
        `rate`, and `utilisation` in FLOP of the model; None where no peak is known.
    """
    chips = {(getattr(d, "slice_index", 0), *getattr(d, "coords", [d.id])) for d in jax.devices()}
    flops = flops_a_parameter * num_parameters(config) * rate / len(chips)
    kind = jax.devices()[0].device_kind
    chip = next((chip for chip in CHIPS.values() if chip.device_kind == kind), None)
    utilisation = None if chip is None else flops / (chip.devices * chip.flops)
    return {"rate": rate / len(chips), "utilisation": utilisation}
