"""Tunes glibc's allocator so that freed memory stays with the process, where the CPU computes.

XLA allocates the scratch memory of a program every time it runs, up to gigabytes. By default glibc
takes it from the kernel and returns it, and the kernel clears all its pages again for every run.
"""

import glob
import os
import sys
from collections.abc import Mapping

from pmc_jax.distributed import launch

_TUNABLES = {
    "mmap_max": 0,  # large blocks are no mappings of their own,
    "arena_max": 1,  # lie in the arena that can hold them,
    "trim_threshold": 2**62,  # and are kept.
    # Else the few bytes beside an aligned block are handed out, and it does not fit there again.
    "tcache_count": 0,
    "mxfast": 0,
}
_ACCELERATORS = (*launch.TPUS, launch.NVIDIA_GPUS, "/dev/dxg", "/dev/kfd")


def tune_glibc_malloc() -> None:
    """Re-executes the process once with GLIBC_TUNABLES set, which glibc reads only at its start.

    The process then holds on to the most memory that it ever needed.
    """
    if _helps(os.environ):
        tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
        os.environ["GLIBC_TUNABLES"] = tunables
        os.execv(sys.executable, sys.orig_argv)


def _helps(environment: Mapping[str, str]) -> bool:
    """Whether the CPU computes, and the environment neither tunes nor replaces the allocator."""
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")) for name in environment):
        return False
    if platforms := environment.get("JAX_PLATFORMS"):
        on_cpu = platforms == "cpu"
    else:
        on_cpu = not any(glob.glob(pattern) for pattern in _ACCELERATORS)
    return on_cpu and "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
