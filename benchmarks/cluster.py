"""Adds options for meshes and several processes to the benchmarks, and computes rates per chip."""

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

_TIMEOUT_SECONDS = 300.0  # maximum wait for the other processes


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Adds the options of the mesh, parses all options and joins the other processes of the job."""
    for axis in ("fsdp", "tensor"):
        parser.add_argument(
            f"--{axis}", type=int, default=1, help="number of devices on this mesh axis"
        )
    launch.add_flags(parser)
    options = parser.parse_args()
    if (spec := launch.process_spec(options, os.environ)) is not None:
        if getattr(options, "against", None):
            parser.error(
                "--against works only in one process. Remove the options for several processes."
            )
        launch.join(spec, _TIMEOUT_SECONDS)
    return options


def mesh(options: argparse.Namespace) -> Mesh:
    return make_mesh(-1, options.fsdp, options.tensor)


def per_chip(rate: float, config: DecoderConfig, flops_a_parameter: int) -> dict[str, Any]:
    """Computes the rate per chip and the utilisation of the chip.

    Args:
        rate: tokens per second of all chips.
        config: configuration of the decoder.
        flops_a_parameter: model FLOPs per parameter and token, 6 for training or 2 for generation.

    Returns:
        `rate` in tokens per second, and `utilisation` as a fraction of the chip's published peak.
        `utilisation` is None if the peak is unknown.
    """
    chips = {(getattr(d, "slice_index", 0), *getattr(d, "coords", [d.id])) for d in jax.devices()}
    flops = flops_a_parameter * num_parameters(config) * rate / len(chips)
    kind = jax.devices()[0].device_kind
    chip = next((chip for chip in CHIPS.values() if chip.device_kind == kind), None)
    utilisation = None if chip is None else flops / (chip.devices * chip.flops)
    return {"rate": rate / len(chips), "utilisation": utilisation}
