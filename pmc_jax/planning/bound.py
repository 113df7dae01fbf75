"""Lower bounds on the time of a program, from the published figures of the TPU."""

import collections
import dataclasses
import functools

import numpy as np

from pmc_jax.planning.chips import Chip
from pmc_jax.planning.cost import Collective, Cost


@dataclasses.dataclass(frozen=True)
class Network:
    """Links between the devices of a mesh.

    Attributes:
        chip: kind of all devices.
        devices: devices of the mesh. Partition i of a program runs on `devices[i]`.
        axes: name and size of each mesh axis, from the outermost axis to the innermost.
    """

    chip: Chip
    devices: tuple
    axes: tuple[tuple[str, int], ...]

    @functools.cached_property
    def _coordinates(self) -> np.ndarray:
        """Slice number and coordinates in the slice of each device, [devices, 1 + dimensions]."""
        return np.array([[getattr(d, "slice_index", 0) or 0, *d.coords] for d in self.devices])

    @functools.cached_property
    def _extent(self) -> np.ndarray:
        return self._coordinates.max(0)[1:] + 1

    def spanned(self, collective: Collective) -> str:
        """Returns the mesh axes along which a collective moves data, such as "data+tensor"."""
        if collective.across:
            return self.axes[0][0]
        sizes = [size for _, size in self.axes]
        # `positions` holds the mesh positions of the group's members, or of each pair.
        members = np.array(collective.pairs or [collective.group])
        positions = np.array(np.unravel_index(members, sizes))
        varies = (positions != positions[..., :1]).any((1, 2))
        return "+".join(name for (name, _), v in zip(self.axes, varies, strict=True) if v)

    def seconds(self, collective: Collective) -> float:
        """Computes a lower bound on the time of a collective, in seconds.

        The bound assumes that the collective runs alone and uses all its links at full rate.
        """
        if collective.across:
            return collective.moved / self.chip.dcn
        if collective.pairs:
            return self._permute_seconds(collective)
        members = self._coordinates[list(collective.group)]
        slices = len(np.unique(members[:, 0]))
        inner = len(members) // slices
        moved, seconds = collective.moved, 0.0
        if slices > 1:
            # Data moves within the slices first. Then each device sends its part to other slices.
            part = collective.result / inner
            twice = 2 if collective.kind == "all-reduce" else 1
            seconds = twice * part * (slices - 1) / slices / self.chip.dcn
            moved = collective.moved * (inner - 1) / inner
        spans = np.ptp(members[members[:, 0] == members[0, 0]][:, 1:], axis=0) + 1
        is_ring = (spans == self._extent) & (spans % self.chip.wrap == 0)
        if links := int(np.sum((spans > 1) * (1 + is_ring))):
            seconds += moved / (links * self.chip.link)
        elif inner > 1:  # The devices are on one chip.
            seconds += moved / self.chip.hbm_bandwidth
        return seconds

    def _permute_seconds(self, collective: Collective) -> float:
        ends = self._coordinates[np.array(collective.pairs)]
        if (ends[:, 0, 0] != ends[:, 1, 0]).any():
            return collective.result / self.chip.dcn
        apart = np.abs(ends[:, 0, 1:] - ends[:, 1, 1:])
        is_ring = self._extent % self.chip.wrap == 0
        apart = np.where(is_ring, np.minimum(apart, self._extent - apart), apart)
        # Messages over longer distances use more links.
        return collective.result * max(1.0, float(apart.sum(1).mean())) / self.chip.link


@dataclasses.dataclass(frozen=True)
class Bound:
    """Lower bound and estimate of the time of one run of a program, in seconds.

    Attributes:
        compute: time of the FLOPs at the peak rate of the device.
        hbm: time to transfer the HBM traffic at the peak rate.
        network: sum of the times of all collectives, each alone.
        estimated: time of the clock cycles that the compiler estimates, plus the waits for
            collectives that do not overlap with computation.
        seconds: lower bound, which is the largest of `compute`, `hbm` and `network`.
        by: name of the resource whose time is the lower bound.
    """

    compute: float
    hbm: float
    network: float
    estimated: float
    seconds: float
    by: str


def bound(cost: Cost, network: Network) -> Bound:
    """Computes the time bound of a program from its cost on one device.

    Args:
        cost: cost that `program_cost` computed with the clock of the chip and `network.seconds`.
        network: links between the devices.
    """
    chip = network.chip
    parts = {
        "compute": cost.flops / chip.flops,
        "HBM": cost.hbm / chip.hbm_bandwidth,
        "network": sum(n * network.seconds(c) for c, n in cost.collectives.items()),
    }
    by = max(parts, key=parts.get)
    return Bound(*parts.values(), cost.seconds, parts[by], by)


def by_axis(cost: Cost, network: Network) -> list[dict]:
    """Sums the collectives of a program for each kind and each group of mesh axes.

    Returns:
        A list of dicts, most bytes first, with the keys `kind`, `axes`, `count` (number of runs),
        `bytes` (bytes that one device receives) and `seconds` (lower bound on the time).
    """
    totals = collections.defaultdict(lambda: {"count": 0, "bytes": 0.0, "seconds": 0.0})
    for collective, count in cost.collectives.items():
        total = totals[collective.kind, network.spanned(collective)]
        total["count"] += count
        total["bytes"] += count * collective.moved
        total["seconds"] += count * network.seconds(collective)
    rows = [{"kind": kind, "axes": axes, **total} for (kind, axes), total in totals.items()]
    return sorted(rows, key=lambda row: -row["bytes"])
