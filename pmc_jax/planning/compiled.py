"""Memory and cost of one program that is compiled for a TPU."""

import dataclasses
import importlib.metadata
import re
import time
from typing import Any

import jax

from pmc_jax.errors import UserError
from pmc_jax.planning import hlo
from pmc_jax.planning.bound import Bound, Network, bound, by_axis
from pmc_jax.planning.cost import program_cost

# This pattern matches the compiler's messages "Used 20.50G of 15.75G hbm" and "HLO temporaries
# (20.50G) exceeds".
_USED = re.compile(r"(?:Used |temporaries \()([\d.]+)([KMG])\b", re.IGNORECASE)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
    """Memory and cost of a compiled program on one device.

    The attributes after `compile_seconds` are None if the compiler ran out of device memory.

    Attributes:
        arguments_bytes: bytes of the arguments in HBM.
        temporaries_bytes: bytes in HBM for temporaries, outputs and code. If the compiler ran out
            of memory, the arguments count here too.
        beside_bytes: bytes of other data in HBM while the program runs.
        fits: whether the program and the other data fit into the memory of the device.
        compile_seconds: duration of the compilation in seconds.
        flops: FLOPs of matrix products and convolutions in one run.
        hbm_bytes: bytes that one run reads from and writes to HBM.
        estimated_cycles: the compiler's estimate of the clock cycles of one run.
        collectives: sums of the collectives by kind and mesh axes, see `by_axis`.
        bound: lower bound on the time of one run.
    """

    arguments_bytes: int
    temporaries_bytes: int
    beside_bytes: int
    fits: bool
    compile_seconds: float
    flops: float | None = None
    hbm_bytes: float | None = None
    estimated_cycles: float | None = None
    collectives: list[dict] | None = None
    bound: Bound | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes in HBM while the program runs, those of other data included."""
        return self.arguments_bytes + self.temporaries_bytes + self.beside_bytes

    def record(self) -> dict[str, Any]:
        """Returns a dict with `total_bytes` and all attributes that are not None, for JSON."""
        values = dataclasses.asdict(self) | {"total_bytes": self.total_bytes}
        return {name: value for name, value in values.items() if value is not None}


def compile_program(
    name: str, lowered: jax.stages.Lowered, network: Network, beside_bytes: int
) -> tuple[Program, jax.stages.Compiled | None]:
    """Compiles a program for the devices of the mesh and analyses its memory and cost.

    Args:
        name: name of the program, for messages.
        lowered: program, lowered for the devices of the mesh.
        network: links between the devices of the mesh.
        beside_bytes: bytes of other data in HBM while the program runs.

    Returns:
        The memory and cost, and the compiled program. The compiled program is None if the compiler
        ran out of device memory.

    Raises:
        UserError: the compiler fails for a reason other than memory.
    """
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
        seconds = time.perf_counter() - begin
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        if (used := _USED.search(str(error))) is None:
            raise UserError(
                f"pmc plan: the TPU compiler fails on {name} with jax {jax.__version__} and libtpu "
                f"{importlib.metadata.version('libtpu')} ({str(error).splitlines()[0]:.160}). "
                "Install matching versions with pip install 'pmc_jax[plan]'."
            ) from None
        size = int(float(used[1]) * _UNITS[used[2].upper()])
        return Program(0, size, beside_bytes, False, time.perf_counter() - begin), None
    cost = program_cost(
        hlo.parse(text), clock=network.chip.clock, collective_seconds=network.seconds
    )
    memory = compiled.memory_analysis()
    arguments = memory.argument_size_in_bytes
    temporaries = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    temporaries += memory.output_size_in_bytes - memory.alias_size_in_bytes
    fits = arguments + temporaries + beside_bytes <= network.chip.hbm
    costs = cost.flops, cost.hbm, cost.cycles, by_axis(cost, network), bound(cost, network)
    return Program(arguments, temporaries, beside_bytes, fits, seconds, *costs), compiled
