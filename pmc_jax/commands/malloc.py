"""Freed memory that stays with the process, where the CPU computes.

XLA asks for the scratch memory of a program anew every time it runs, up to gigabytes; glibc takes
it from the kernel and gives it back, and every run begins with clearing all its pages.
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
    """Begins the process anew, once, with a glibc that keeps what is freed for what comes next: it
    reads how to at the start alone. The process then holds what it has needed at most.
    """
    if _helps(os.environ):
        tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
        os.environ["GLIBC_TUNABLES"] = tunables
        os.execv(sys.executable, sys.orig_argv)


def _helps(environment: Mapping[str, str]) -> bool:
    """Whether the CPU computes, and nobody has tuned the allocator or taken another."""
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")) for name in environment):
        return False
    if platforms := environment.get("JAX_PLATFORMS"):
        on_cpu = platforms == "cpu"
    else:
        on_cpu = not any(glob.glob(pattern) for pattern in _ACCELERATORS)
    return on_cpu and "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
