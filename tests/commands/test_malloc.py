"""What XLA's programs free on CPU stays with the process."""

import os
import subprocess
import sys

import pytest

from pmc_jax.commands import malloc

glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="glibc's allocator alone"
)
_PROGRAM = """
import os, resource, sys
from pmc_jax.commands import malloc
if sys.argv[1] == "kept":
    malloc.tune_glibc_malloc()
    assert "GLIBC_TUNABLES" in os.environ
import jax, jax.numpy as jnp
scratch = jax.jit(lambda x: jnp.cumsum(jnp.outer(x, x), axis=1)[:, -1])  # 128 MiB, 32,768 pages
x = jnp.arange(4096.0)
for _ in range(12):
    scratch(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF)
for _ in range(8):
    scratch(x).block_until_ready()
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_minflt - before.ru_minflt, after.ru_maxrss - before.ru_maxrss)
"""


@glibc
def test_only_where_the_cpu_computes_and_nobody_tunes_the_allocator(monkeypatch):
    devices = []
    monkeypatch.setattr(
        malloc.glob, "glob", lambda pattern: [d for d in devices if d[:9] in pattern]
    )
    assert malloc._helps({}) and malloc._helps({"JAX_PLATFORMS": "cpu"})
    for platforms in ("tpu", "tpu,cpu", "cuda"):
        assert not malloc._helps({"JAX_PLATFORMS": platforms})
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"):
        assert not malloc._helps({"JAX_PLATFORMS": "cpu", name: "4"})
    devices.append("/dev/nvidia0")
    assert not malloc._helps({}) and malloc._helps({"JAX_PLATFORMS": "cpu"})


@glibc
@pytest.mark.slow  # it counts page faults of this machine
def test_scratch_memory_is_not_cleared_again():
    """Eight runs with 32,768 pages each: new ones every time, or twice at most, where a run begins
    before the memory of the last one is free."""
    environment = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
    found = {}
    for which in ("fresh", "kept"):
        command = [sys.executable, "-c", _PROGRAM, which]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[which] = [int(number) for number in done.stdout.split()]
    assert found["fresh"][0] > 8 * 32768 and found["kept"][0] < 3 * 32768, found
    assert found["kept"][1] < 3 * 128 * 1024, found  # KiB
