"""Descriptions of TPU slices, for which programs can be compiled without a TPU."""

import contextlib
import importlib.util
import itertools
import math
import os
import platform
from collections.abc import Sequence

from pmc_jax.errors import UserError
from pmc_jax.planning.chips import CHIPS, Chip

# With these variables, libtpu compiles without server queries, log lines or a lock.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_MIN_LOG_LEVEL": "4",
    "TPU_STDERR_LOG_LEVEL": "4",
    "TF_CPP_MIN_LOG_LEVEL": "4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}


def topology(name: str, num_slices: int = 1) -> tuple[Chip, Sequence]:
    """Returns the kind of chip, and jax devices that stand for those of all slices.

    Args:
        name: kind and size of a slice, such as v5e:4x4.
        num_slices: number of slices.

    Raises:
        UserError: the slice is unknown, or the TPU compiler is not installed.
    """
    kind, _, size = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"plan.topology: the TPU {kind!r} is unknown. Use one of {', '.join(CHIPS)} with a "
            "size, such as v5e:4x4."
        )
    sizes = slices(CHIPS[kind])
    if size not in sizes:
        raise UserError(
            f"plan.topology: {kind} has no slice {size!r}. Use {kind}:SIZE with a size such as "
            f"{', '.join(sizes[:12])}."
        )
    return CHIPS[kind], _described(name, size, num_slices)


def slices(chip: Chip) -> list[str]:
    """Returns the sizes of the slices that a kind of chip has, from the smallest to the largest.

    A size is a text such as "4x4".
    """
    if len(chip.largest) == 2:
        return ["1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"]
    small = [(2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)]
    edges = [range(4, most + 1, 4) for most in chip.largest]
    large = [size for size in itertools.product(*edges) if list(size) == sorted(size)]
    return ["x".join(map(str, size)) for size in (*small, *sorted(large, key=math.prod))]


def _described(name: str, size: str, num_slices: int) -> Sequence:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "pmc plan: the TPU compiler libtpu is not installed. Run pip install 'pmc_jax[plan]' "
            f"on Linux x86-64 (this machine is {platform.system()} {platform.machine()})."
        )
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    options = {"num_slices": num_slices} if num_slices > 1 else {}
    if size == "1x1":  # The host of this slice has only one chip.
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        with _quiet():
            return topologies.get_topology_desc(name, platform="tpu", **options).devices
    except Exception as error:  # libtpu raises errors of several types.
        reason = str(error).strip().splitlines()[0]
        if "lockfile" in reason:
            raise UserError(
                f"plan.topology={name}: libtpu is locked ({reason:.120}). Wait until the process "
                "that uses libtpu ends. If no process uses libtpu, remove /tmp/libtpu_lockfile."
            ) from None
        raise UserError(
            f"plan.topology={name}: libtpu does not accept this slice ({reason:.160}). Set "
            "plan.topology and plan.num_slices to another slice."
        ) from None


@contextlib.contextmanager
def _quiet():
    """Discards everything that libtpu writes to stderr in a `with` block."""
    stderr = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
