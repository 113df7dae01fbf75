"""Tunes glibc's allocator so that a process that computes on CPUs keeps its freed memory.

XLA allocates up to gigabytes of scratch memory each time that a program runs. By default, glibc
returns this memory to the kernel after each run, and the kernel clears all pages for the next run.
"""

import glob
import os
import sys
from collections.abc import Mapping

from pmc_jax.distributed import launch, preemption

_TUNABLES = {
    "mmap_max": 0,  # uses no separate mappings for large blocks
    "arena_max": 1,  # uses one arena, which can hold large blocks
    "trim_threshold": 2**62,  # never returns memory to the kernel
    # These caches would reuse the bytes next to a freed aligned block, and the next aligned block
    # would then not fit there.
    "tcache_count": 0,
    "mxfast": 0,
}
_ACCELERATORS = (*launch.TPUS, launch.NVIDIA_GPUS, "/dev/dxg", "/dev/kfd")


def tune_glibc_malloc() -> None:
    """Re-executes the process once with GLIBC_TUNABLES, if it computes on CPUs.

    glibc reads this variable only at the start of a process. The process then keeps its peak memory
    until it ends.
    """
    if _helps(os.environ):
        tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _TUNABLES.items())
        os.environ["GLIBC_TUNABLES"] = tunables
        preemption.hold_signals()  # Python would answer Ctrl-C with a traceback while it starts.
        os.execv(sys.executable, sys.orig_argv)


def _helps(environment: Mapping[str, str]) -> bool:
    """Returns whether JAX uses the CPU and the process uses glibc's allocator with its defaults."""
    if any(name.startswith(("GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")) for name in environment):
        return False
    if platforms := environment.get("JAX_PLATFORMS"):
        on_cpu = platforms == "cpu"
    else:
        on_cpu = not any(glob.glob(pattern) for pattern in _ACCELERATORS)
    return on_cpu and "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
