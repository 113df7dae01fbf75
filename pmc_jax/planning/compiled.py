"""One program, compiled for a TPU: what it takes of the memory and what it costs."""

import dataclasses
import importlib.metadata
import re
import time

import jax

from pmc_jax.errors import UserError
from pmc_jax.planning import hlo
from pmc_jax.planning.bound import Bound, Network, bound, by_axis
from pmc_jax.planning.cost import Cost, program_cost

# Of the compiler's message: "Used 20.50G of 15.75G hbm", "HLO temporaries (20.50G) exceeds".
_USED = re.compile(r"(?:Used |temporaries \()([\d.]+)([KMG])\b", re.IGNORECASE)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program on one device.

    Attributes:
        name: what it does.
        arguments, temporaries: bytes in HBM; of one that does not fit all are temporaries.
        beside: bytes in HBM that it does not read, but that are there while it runs.
        fits: the compiler found room for it.
        cost, bound, collectives: None and empty where it does not fit.
        compile_seconds: how long the compiler took.
    """

    name: str
    arguments: int
    temporaries: int
    beside: int
    fits: bool
    cost: Cost | None
    bound: Bound | None
    collectives: list[dict]
    compile_seconds: float

    @property
    def total(self) -> int:
        """Bytes in HBM while it runs."""
        return self.arguments + self.temporaries + self.beside


def _refused(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"pmc plan: the TPU compiler fails on {name} ({reason:.160}); this is jax "
        f"{jax.__version__} with libtpu {importlib.metadata.version('libtpu')}, and "
        "pip install 'pmc_jax[plan]' brings the pair that belongs together"
    )


def compile_program(
    name: str, lowered: jax.stages.Lowered, network: Network, *, beside: int = 0
) -> tuple[Program, jax.stages.Compiled | None]:
    """Compiles for the devices of the mesh and takes the program apart.

    Args:
        beside: bytes on each device that are kept while it runs and are none of its arguments.
    """
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used = _USED.search(str(error))
        if used is None:
            raise _refused(name, error) from None
        taken = int(float(used[1]) * _UNITS[used[2].upper()])
        seconds = time.perf_counter() - begin
        return Program(name, 0, taken, beside, False, None, None, [], seconds), None
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        raise _refused(name, error) from None
    cost = program_cost(
        hlo.parse(text),
        clock=network.chip.clock,
        collective_seconds=network.seconds,
    )
    arguments = memory.argument_size_in_bytes
    temporaries = (
        memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    fits = arguments + temporaries + beside <= network.chip.hbm
    program = Program(
        name,
        arguments,
        temporaries,
        beside,
        fits,
        cost,
        bound(cost, network),
        by_axis(cost, network),
        seconds,
    )
    return program, compiled
