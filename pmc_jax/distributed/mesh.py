"""Device meshes and layouts; a layout is a mesh and a table of logical axes to mesh axes.

Arrays carry a `NamedSharding`, and jitted functions follow it. The axes and the tables are in
`pmc_jax.config.sharding`. A single device is the 1 x 1 x 1 x 1 mesh.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pmc_jax.config.sharding import AXES, SAMPLE_RULES, TRAIN_RULES, Rules, rule_faults
from pmc_jax.errors import UserError

__all__ = ["AXES", "SAMPLE_RULES", "TRAIN_RULES", "Layout", "layout", "make_mesh"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh and a table; hashable, so that it can be a static argument of a jitted function.

    Attributes:
        mesh: devices, with the axes `AXES`.
        rules: pairs (logical axis, mesh axes).
    """

    mesh: Mesh
    rules: tuple[tuple[str, tuple[str, ...]], ...]

    def axes(self, logical: Sequence[str | None], shape: Sequence[int]) -> list[tuple[str, ...]]:
        """Mesh axes of each dimension by the table; none if they do not divide its size."""
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
        """`axes` without mesh axes of size 1, along which no communication is needed."""
        all_axes = self.axes(logical, shape)
        return [tuple(a for a in axes if self.mesh.shape[a] > 1) for axes in all_axes]

    def spec(self, logical: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
        """`axes` as a `PartitionSpec`."""
        return PartitionSpec(*(axes or None for axes in self.axes(logical, shape)))

    def sharding(self, logical: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(logical, shape))

    def constrain(self, x: jax.Array, *logical: str | None) -> jax.Array:
        """Pins the sharding of `x` inside a jitted function."""
        return jax.lax.with_sharding_constraint(x, self.sharding(logical, x.shape))

    def put(self, x: np.ndarray, *logical: str | None) -> jax.Array:
        """Turns a host array into a global array; each process copies its devices' rows only."""
        x = np.asarray(x)
        return jax.make_array_from_callback(
            x.shape, self.sharding(logical, x.shape), lambda index: x[index]
        )

    def unsharded_dims(self, logical: Sequence[str | None], shape: Sequence[int]) -> list[str]:
        """Dimensions that stay unsharded because their size does not divide, as "kv_heads 2"."""
        table = dict(self.rules)
        pairs = zip(logical, self.axes(logical, shape), shape, strict=True)
        return [
            f"{name} {size}"
            for name, axes, size in pairs
            if not axes and any(self.mesh.shape[a] > 1 for a in table.get(name, ()))
        ]

    @property
    def platform(self) -> str:
        """Platform of the devices: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @property
    def row_multiple(self) -> int:
        """Batches are padded to a multiple of this many rows."""
        return math.prod(self.mesh.shape[a] for a in dict(self.rules)["rows"])


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    slices: int = 1,
    devices: Sequence | None = None,
) -> Mesh:
    """Lays the devices out as `slices` x `data` x `fsdp` x `tensor`.

    Devices are grouped by `slice_index` if they have one; by process if there are as many
    processes as slices; otherwise in their order, as for virtual CPU devices.

    Args:
        data, fsdp, tensor: sizes on each slice; one of them may be -1 = all remaining devices.
        slices: groups of devices joined by the data-centre network; -1 = the number that the
            devices report, or 1 if they report none.
        devices: the devices to use; None = all.

    Raises:
        UserError: the product of the sizes is not the number of devices, or `slices` is not the
            number of slices of the devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    rest = [name for name, size in sizes.items() if size == -1]
    shown = {"slices": slices, **sizes} if slices != 1 else sizes
    if len(rest) > 1 or any(s != -1 and s < 1 for s in (slices, *sizes.values())):
        raise UserError(
            "mesh: sizes must be positive; slices and one of data, fsdp and tensor may be -1; "
            f"got {shown}"
        )
    slices = _slices(slices, devices)
    each, fixed = len(devices) // slices, math.prod(s for s in sizes.values() if s != -1)
    if each % fixed if rest else fixed != each:
        available = f"{len(devices)} devices" if slices == 1 else f"{each} devices per slice"
        raise UserError(
            f"mesh: {shown} does not fit {available}; sizes that divide them: {_divisors(each)}"
        )
    if rest:
        sizes[rest[0]] = each // fixed
    shape, types = (slices, *sizes.values()), (AxisType.Auto,) * len(AXES)
    if slices > 1:
        return Mesh(_by_slice(shape, devices), AXES, axis_types=types)
    try:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    except NotImplementedError:  # sizes that split a dimension of the TPU's network
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except AssertionError:  # jax has no order for the two devices of a v4 chip
        array = np.array(devices).reshape(shape)
    return Mesh(array, AXES, axis_types=types)


def _slices(wanted: int, devices: Sequence) -> int:
    """Number of slices, checked against the `slice_index` of the devices."""
    counts = collections.Counter(getattr(device, "slice_index", None) for device in devices)
    actual = len(counts)
    if actual > 1 and wanted not in (-1, actual):
        raise UserError(
            f"mesh.slices: {wanted}, but the devices form {actual} slices; set {actual}, or -1"
        )
    if len(set(counts.values())) > 1:
        raise UserError(
            f"mesh.slices: the {actual} slices hold {sorted(counts.values())} devices; "
            "expected the same number on each"
        )
    if wanted == -1:
        return actual
    if len(devices) % wanted:
        raise UserError(
            f"mesh.slices: {wanted} does not fit {len(devices)} devices; "
            f"sizes that divide them: {_divisors(len(devices))}"
        )
    return wanted


def _divisors(count: int) -> list[int]:
    return [d for d in range(1, count + 1) if count % d == 0]


def _by_slice(shape: tuple[int, ...], devices: Sequence) -> np.ndarray:
    """Arranges devices in an array of this shape; each slice follows its own network."""
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
    mesh: Mesh, rules: Mapping[str, tuple[str, ...]], changed: Rules | None = None
) -> Layout:
    """Makes a layout from a table; rows in `changed` replace those of the table.

    Raises:
        UserError: the mesh lacks the axes of `make_mesh`, or a row names an unknown axis.
    """
    if set(mesh.axis_names) != set(AXES):
        raise UserError(
            f"mesh: its axes are {', '.join(mesh.axis_names)}; expected {', '.join(AXES)}, "
            "as make_mesh returns them"
        )
    if faults := list(rule_faults(changed or {})):
        raise UserError(f"rules: {' '.join(faults)}")
    table = {**rules, **{name: tuple(axes) for name, axes in (changed or {}).items()}}
    return Layout(mesh, tuple(sorted(table.items())))


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
