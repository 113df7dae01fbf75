"""Device meshes, and layouts that map the logical axes of arrays to mesh axes.

Each array has a `NamedSharding`, from which jitted functions take their shardings. The module
`pmc_jax.config.sharding` defines the axes and the sharding rules. A single device forms a mesh of
shape 1 x 1 x 1 x 1.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pmc_jax.config.sharding import AXES, SAMPLE_RULES, TRAIN_RULES
from pmc_jax.errors import UserError

__all__ = ["AXES", "SAMPLE_RULES", "TRAIN_RULES", "Layout", "layout", "make_mesh"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Device mesh with sharding rules.

    The class is hashable, so a layout can be a static argument of jax.jit.

    Attributes:
        mesh: mesh of devices with the axes `AXES`.
        rules: pairs of a logical axis and the mesh axes that shard it.
    """

    mesh: Mesh
    rules: tuple[tuple[str, tuple[str, ...]], ...]

    def axes(self, logical: Sequence[str | None], shape: Sequence[int]) -> list[tuple[str, ...]]:
        """Returns the mesh axes along which each dimension of an array is sharded.

        A dimension is sharded along no axes if its size is not a multiple of the number of shards.
        A mesh axis shards at most one dimension.

        Args:
            logical: logical axis of each dimension; None means that a dimension is never sharded.
            shape: size of each dimension.
        """
        table = dict(self.rules)
        entries, used = [], set()
        for name, size in zip(logical, shape, strict=True):
            axes = tuple(a for a in table.get(name, ()) if a not in used)
            if axes and size % math.prod(self.mesh.shape[a] for a in axes) == 0:
                used.update(axes)
                entries.append(axes)
            else:
                entries.append(())
        return entries

    def sharded_axes(
        self, logical: Sequence[str | None], shape: Sequence[int]
    ) -> list[tuple[str, ...]]:
        """Returns the mesh axes of each dimension as `axes` does, without mesh axes of size 1."""
        all_axes = self.axes(logical, shape)
        return [tuple(a for a in axes if self.mesh.shape[a] > 1) for axes in all_axes]

    def spec(self, logical: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        """Returns the mesh axes that shard each dimension of an array, as a `PartitionSpec`."""
        return PartitionSpec(*(axes or None for axes in self.axes(logical, shape)))

    def sharding(self, logical: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(logical, shape))

    def constrain(self, x: jax.Array, *logical: str | None) -> jax.Array:
        """Constrains the sharding of `x` inside a jitted function.

        Args:
            x: array to constrain.
            logical: logical axis of each dimension; None means that a dimension is never sharded.
        """
        return jax.lax.with_sharding_constraint(x, self.sharding(logical, x.shape))

    def put(self, x: np.ndarray, *logical: str | None) -> jax.Array:
        """Converts a host array to a global array with the sharding of its logical axes.

        Each process copies only the shards of its own devices.
        """
        x = np.asarray(x)
        return jax.make_array_from_callback(
            x.shape, self.sharding(logical, x.shape), lambda index: x[index]
        )

    def unsharded_dims(self, logical: Sequence[str | None], shape: Sequence[int]) -> list[str]:
        """Returns the dimensions whose size prevents sharding, as texts such as "kv_heads 2"."""
        table = dict(self.rules)
        pairs = zip(logical, self.axes(logical, shape), shape, strict=True)
        return [
            f"{name} {size}"
            for name, axes, size in pairs
            if not axes and size % math.prod(self.mesh.shape[a] for a in table.get(name, ()))
        ]

    @property
    def platform(self) -> str:
        """Platform of the devices: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def row_multiple(self) -> int:
        """Number of shards into which the rows of a batch are divided.

        Batches are padded to a multiple of this number.
        """
        return math.prod(self.mesh.shape[a] for a in dict(self.rules)["rows"])


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    slices: int = 1,
    devices: Sequence[object] | None = None,  # jax does not declare the type of a device
) -> Mesh:
    """Builds a mesh with `slices` x `data` x `fsdp` x `tensor` devices.

    For several slices, devices are grouped by their attribute `slice_index` if it has one value per
    slice, or else by process if there are as many processes as slices. Otherwise, as with virtual
    CPU devices, they keep their order.

    Args:
        data: size of the axis `data` within each slice; one of the three sizes may be -1, which
            selects all remaining devices.
        fsdp: size of the axis `fsdp` within each slice.
        tensor: size of the axis `tensor` within each slice.
        slices: number of device groups that the data-centre network joins; -1 selects the number
            that the devices report, or 1 if they report no slices.
        devices: devices of the mesh; None selects all devices.

    Raises:
        UserError: a size is invalid, the sizes do not fit the number of devices, or `slices`
            differs from the number of slices that the devices report.

    Example:
        >>> mesh = pmc.make_mesh(data=1, fsdp=-1)
        >>> mesh.axis_names
        ('slice', 'data', 'fsdp', 'tensor')
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    rest = [name for name, size in sizes.items() if size == -1]
    shown = {"slices": slices, **sizes} if slices != 1 else sizes
    if len(rest) > 1 or any(s != -1 and s < 1 for s in (slices, *sizes.values())):
        raise UserError(
            f"mesh: the sizes {shown} are invalid. Set each size to a positive number. Only slices "
            "and one of data, fsdp and tensor may be -1."
        )
    slices = _slices(slices, devices)
    each, fixed = len(devices) // slices, math.prod(s for s in sizes.values() if s != -1)
    if each % fixed if rest else fixed != each:
        available = "devices" if slices == 1 else "devices per slice"
        raise UserError(
            f"mesh: the product of the sizes {sizes} {'cannot be' if rest else 'is not'} the "
            f"number of {available} ({each}). Choose sizes from {_divisors(each)} whose product "
            f"is {each}."
        )
    if rest:
        sizes[rest[0]] = each // fixed
    shape, types = (slices, *sizes.values()), (AxisType.Auto,) * len(AXES)
    if slices > 1:
        return Mesh(_by_slice(shape, devices), AXES, axis_types=types)
    try:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    except NotImplementedError:  # The sizes split a dimension of the TPU network.
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except AssertionError:  # jax has no order for the two devices of a v4 chip.
        array = np.array(devices).reshape(shape)
    return Mesh(array, AXES, axis_types=types)


def _slices(wanted: int, devices: Sequence) -> int:
    """Checks the wanted number of slices against the devices and returns the number to use.

    -1 selects the number of slices that the devices report.

    Raises:
        UserError: the devices cannot form the wanted number of slices of equal size.
    """
    counts = collections.Counter(getattr(device, "slice_index", None) for device in devices)
    actual = len(counts)
    if actual > 1 and wanted not in (-1, actual):
        raise UserError(
            f"mesh.slices: the value is {wanted}, but the devices form {actual} slices. Set "
            f"mesh.slices to {actual} or -1."
        )
    if len(set(counts.values())) > 1:
        raise UserError(
            f"mesh.slices: all slices must have equal numbers of devices, but they have "
            f"{sorted(counts.values())} devices. Use slices of equal size."
        )
    if wanted == -1:
        return actual
    if len(devices) % wanted:
        raise UserError(
            f"mesh.slices: the number of devices ({len(devices)}) is not a multiple of {wanted}. "
            f"Set mesh.slices to one of {_divisors(len(devices))}."
        )
    return wanted


def _divisors(count: int) -> list[int]:
    return [d for d in range(1, count + 1) if count % d == 0]


def _by_slice(shape: tuple[int, ...], devices: Sequence) -> np.ndarray:
    """Arranges devices in an array whose first axis is the slice.

    Within each slice, the devices are in network order. If neither `slice_index` nor the process
    tells the slices apart, all devices keep their order.
    """
    slices, *inner = shape
    for attribute in ("slice_index", "process_index"):
        counts = collections.Counter(getattr(device, attribute, 0) for device in devices)
        if len(counts) == slices and len(set(counts.values())) == 1:
            return mesh_utils.create_hybrid_device_mesh(
                (1, *inner),
                (slices, *[1] * len(inner)),
                devices,
                process_is_granule=attribute == "process_index",
                allow_split_physical_axes=True,
            )
    return np.array(devices).reshape(shape)


def layout(
    mesh: Mesh,
    rules: Mapping[str, tuple[str, ...]],
    changed: Mapping[str, tuple[str, ...]] | None = None,
) -> Layout:
    """Builds a layout from a mesh and sharding rules.

    Args:
        mesh: mesh that `make_mesh` returns.
        rules: mapping from logical axes to mesh axes, such as `TRAIN_RULES`.
        changed: entries that replace entries of `rules` (see `MeshConfig`).

    Raises:
        UserError: the mesh does not have the axes `AXES`.
    """
    if set(mesh.axis_names) != set(AXES):
        raise UserError(
            f"mesh: the axes must be {', '.join(AXES)}, but they are "
            f"{', '.join(mesh.axis_names)}. Build the mesh with pmc_jax.make_mesh."
        )
    return Layout(mesh, tuple(sorted({**rules, **(changed or {})}.items())))


def round_up(value: int, multiple: int) -> int:
    """Returns the smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple
