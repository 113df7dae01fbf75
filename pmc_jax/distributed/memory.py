"""Free memory of this machine and of its devices, and a check of the memory that work needs."""

import math
from pathlib import Path

import jax
from jax.sharding import Mesh

from pmc_jax.errors import UserError

_SYSTEM = Path("/proc/meminfo")
# For both versions of control groups: the folder, its files with the limit and the use of memory,
# and the key of the file cache in memory.stat. The kernel frees the file cache on demand.
_CONTAINERS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_cache",
    ),
)


def check_memory(what: str, fix: str, mesh: Mesh, *, on_devices: float, on_host: float) -> None:
    """Raises an error if work needs more memory than is free.

    Args:
        what: the work, for the message.
        fix: last sentence of the message, which says what to do.
        mesh: devices on which the work runs.
        on_devices: bytes that the work needs at least, on all devices together.
        on_host: bytes that the work needs at least in the memory of this machine.

    Raises:
        UserError: too little memory of a device or of this machine is free.
    """
    local = mesh.local_devices
    each, free, where = on_devices / mesh.size, min(map(free_on_device, local)), "each device"
    if each <= free:
        # Devices without a memory of their own use the memory of this machine.
        each, free = on_host + (each * len(local) if free == math.inf else 0), free_on_host()
        where = "this machine"
    if each > free:
        raise UserError(
            f"{what} needs at least {_size(each)} of memory on {where}, but only {_size(free)} is "
            f"free. {fix}"
        )


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def free_on_device(device: jax.Device) -> float:
    """Returns the free bytes of a device, or infinity for a device without its own memory."""
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit", math.inf) - stats.get("bytes_in_use", 0)


def free_on_host() -> float:
    """Returns the bytes that this process can still use, or infinity if they are not known."""
    free = _table(_SYSTEM).get("MemAvailable", math.inf) * 1024
    for folder, limit, used, cache in _CONTAINERS:
        limit, used = _number(folder / limit), _number(folder / used)
        if used < limit < math.inf:
            free = min(free, limit - used + _table(folder / "memory.stat").get(cache, 0))
    return free


def _table(path: Path) -> dict[str, int]:
    """Returns the numbers of a file with lines such as "MemAvailable: 100 kB"."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return {words[0].rstrip(":"): int(words[1]) for words in lines}
    except (OSError, ValueError, IndexError):
        return {}


def _number(path: Path) -> float:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # The text is "max" if there is no limit.
        return math.inf
