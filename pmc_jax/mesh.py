"""Device meshes, and the one table from logical array axes to mesh axes.

`jax.jit` with shardings is what `pjit` became: arrays carry a `NamedSharding`, jitted functions
follow it. Mesh axes: `data` (copies of the weights), `fsdp` (weights and optimizer sharded,
gathered for use), `tensor` (heads, MLP and vocabulary sharded). One device is the 1 x 1 x 1 mesh;
nothing else changes.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pmc_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes. An axis that a mesh size does not divide is replicated instead.
TRAIN_RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rows": ("data", "fsdp"),
        "embed": ("fsdp",),
        "vocab": ("tensor",),
        "heads": ("tensor",),
        "kv_heads": ("tensor",),
        "mlp": ("tensor",),
    }
)
# Decoding reads every weight at every step: gathered over `fsdp` once a round, never per step.
SAMPLE_RULES: Mapping[str, tuple[str, ...]] = MappingProxyType({**TRAIN_RULES, "embed": ()})


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and a table; hashable, so that jitted functions take it as a static argument.

    Attributes:
        mesh: devices, axes `data`, `fsdp`, `tensor`.
        rules: pairs (logical axis, mesh axes).
    """

    mesh: Mesh
    rules: tuple[tuple[str, tuple[str, ...]], ...]

    def spec(self, logical: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        """Mesh axes of each dimension: by the table, where the sizes divide."""
        table = dict(self.rules)
        entries, used = [], set()
        for name, size in zip(logical, shape, strict=True):
            axes = tuple(a for a in table.get(name, ()) if a not in used)
            if axes and size % math.prod(self.mesh.shape[a] for a in axes) == 0:
                used.update(axes)
                entries.append(axes)
            else:
                entries.append(None)
        return PartitionSpec(*entries)

    def sharding(self, logical: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(logical, shape))

    def constrain(self, x: jax.Array, *logical: str | None) -> jax.Array:
        """Pins the sharding of `x` inside a jitted function."""
        return jax.lax.with_sharding_constraint(x, self.sharding(logical, x.shape))

    def put(self, x: np.ndarray, *logical: str | None) -> jax.Array:
        """Host array to a global array; each process gives the rows that its devices hold."""
        x = np.asarray(x)
        return jax.make_array_from_callback(
            x.shape, self.sharding(logical, x.shape), lambda index: x[index]
        )

    def undivided(self, logical: Sequence[str | None], shape: Sequence[int]) -> list[str]:
        """What this mesh would shard but does not, for its sizes do not divide: "kv_heads 2"."""
        table = dict(self.rules)
        pairs = zip(logical, self.spec(logical, shape), shape, strict=True)
        return [
            f"{name} {size}"
            for name, axes, size in pairs
            if axes is None and any(self.mesh.shape[a] > 1 for a in table.get(name, ()))
        ]

    @property
    def platform(self) -> str:
        """Of the devices: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @property
    def row_multiple(self) -> int:
        """Batches are padded to a multiple of this many rows."""
        return self.mesh.shape["data"] * self.mesh.shape["fsdp"]


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence | None = None
) -> Mesh:
    """Lays the devices out as `data` x `fsdp` x `tensor`.

    Args:
        data, fsdp, tensor: sizes; one of them may be -1 = the rest.
        devices: the devices to use, by default all of them.

    Raises:
        UserError: sizes whose product is not the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    fixed = math.prod(s for s in sizes.values() if s != -1)
    rest = [name for name, s in sizes.items() if s == -1]
    if len(rest) > 1 or any(s != -1 and s < 1 for s in sizes.values()):
        raise UserError(f"mesh: sizes must be positive, at most one of them -1; got {sizes}")
    if len(devices) % fixed if rest else fixed != len(devices):
        divisors = [d for d in range(1, len(devices) + 1) if len(devices) % d == 0]
        raise UserError(
            f"mesh: {sizes} does not fit {len(devices)} devices; sizes that divide them: {divisors}"
        )
    if rest:
        sizes[rest[0]] = len(devices) // fixed
    return jax.make_mesh(
        tuple(sizes[a] for a in AXES), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices
    )


def layout(mesh: Mesh, rules: Mapping[str, tuple[str, ...]]) -> Layout:
    return Layout(mesh, tuple(sorted(rules.items())))
