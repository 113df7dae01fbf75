"""Tunes glibc's allocator so that freed memory stays with the process, for computation on the CPU.

XLA allocates scratch memory, up to gigabytes, each time that a program runs. By default glibc gets
this memory from the kernel and returns it, and the kernel clears all pages again for each run.
"""

import glob
import os
import sys
from collections.abc import Mapping

from pmc_jax.distributed import launch

_TUNABLES = {
    "mmap_max": 0,  # no separate mappings for large blocks
    "arena_max": 1,  # one arena, which can hold them
    "trim_threshold": 2**62,  # never returns memory to the kernel
    # These caches would hand out the bytes next to an aligned block, which then no longer fits.
    "tcache_count": 0,
    "mxfast": 0,
}
_ACCELERATORS = (*launch.TPUS, launch.NVIDIA_GPUS, "/dev/dxg", "/dev/kfd")


def tune_glibc_malloc() -> None:
    """Re-executes the process once with GLIBC_TUNABLES set, which glibc reads only at its start.

    The process then keeps its peak memory until it ends.
    """
    if _helps(os.environ):
        tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
        os.environ["GLIBC_TUNABLES"] = tunables
        os.execv(sys.executable, sys.orig_argv)


def _helps(environment: Mapping[str, str]) -> bool:
    """Whether JAX runs on the CPU and the environment neither tunes nor replaces the allocator."""
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")) for name in environment):
        return False
    if platforms := environment.get("JAX_PLATFORMS"):
        on_cpu = platforms == "cpu"
    else:
        on_cpu = not any(glob.glob(pattern) for pattern in _ACCELERATORS)
    return on_cpu and "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
