"""How long a program takes at the least, by the published figures of a chip."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from pmc_jax.planning.chips import Chip
from pmc_jax.planning.cost import Collective, Cost


@dataclasses.dataclass(frozen=True)
class Network:
    """The links between the devices of a mesh.

    Attributes:
        chip: of all devices.
        devices: partition i is `devices[i]`.
        axes: name and size of the mesh axes, outermost first.
    """

    chip: Chip
    devices: tuple
    axes: tuple[tuple[str, int], ...]

    @functools.cached_property
    def _places(self) -> np.ndarray:
        """[devices, slice and coordinates]."""
        return np.array([[getattr(d, "slice_index", 0) or 0, *d.coords] for d in self.devices])

    @functools.cached_property
    def _extent(self) -> np.ndarray:
        return self._places.max(0)[1:] + 1

    def spanned(self, collective: Collective) -> str:
        """Mesh axes along which it moves data, such as "fsdp" or "data+tensor"."""
        if collective.across:
            return self.axes[0][0]
        sizes = [size for _, size in self.axes]
        # Of each group, or of each pair, where its members stand on the mesh.
        members = np.array(collective.pairs or [collective.group])
        where = np.array(np.unravel_index(members, sizes))
        varies = (where != where[..., :1]).any((1, 2))
        return "+".join(name for (name, _), v in zip(self.axes, varies, strict=True) if v)

    def seconds(self, collective: Collective) -> float:
        """Time that it takes by itself, all links of the spanned dimensions at their rate."""
        if collective.across:
            return collective.moved / self.chip.dcn
        if collective.pairs:
            return self._permute_seconds(collective)
        places = self._places[list(collective.group)]
        slices, n = len(np.unique(places[:, 0])), len(places)
        inner = n // slices
        moved, seconds = collective.moved, 0.0
        if slices > 1:
            # First inside the slices, then each device its part between them.
            share = collective.result / inner
            twice = 2 if collective.kind == "all-reduce" else 1
            seconds = twice * share * (slices - 1) / slices / self.chip.dcn
            moved = collective.moved * (inner - 1) / inner
        mine = places[places[:, 0] == places[0, 0]][:, 1:]
        spans = mine.max(0) - mine.min(0) + 1
        rings = 0
        for span, extent in zip(spans, self._extent, strict=True):
            if span > 1:
                rings += 2 if span == extent and span % self.chip.wrap == 0 else 1
        if rings:
            seconds += moved / (rings * self.chip.link)
        elif inner > 1:  # two devices of one chip
            seconds += moved / self.chip.hbm_bandwidth
        return seconds

    def _permute_seconds(self, collective: Collective) -> float:
        pairs = np.array(collective.pairs)
        ends = self._places[pairs]
        if (ends[:, 0, 0] != ends[:, 1, 0]).any():
            return collective.result / self.chip.dcn
        apart = np.abs(ends[:, 0, 1:] - ends[:, 1, 1:])
        around = self._extent % self.chip.wrap == 0
        apart = np.where(around, np.minimum(apart, self._extent - apart), apart)
        # Messages that go further use more links.
        return collective.result * max(1.0, float(apart.sum(1).mean())) / self.chip.link


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds of one run of a program.

    Attributes:
        compute, hbm, network: what each alone would take at its peak rate.
        estimated: the compiler's cycles, and collectives that nothing hides.
    """

    compute: float
    hbm: float
    network: float
    estimated: float

    @property
    def seconds(self) -> float:
        """No run is faster: the largest of the three."""
        return max(self.compute, self.hbm, self.network)

    @property
    def by(self) -> str:
        """What bounds it."""
        parts = {"compute": self.compute, "HBM": self.hbm, "network": self.network}
        return max(parts, key=parts.get)


def bound(cost: Cost, network: Network) -> Bound:
    """Of a program's cost, from `program_cost` with the clock and the network of the chip."""
    chip = network.chip
    busy = sum(n * network.seconds(c) for c, n in cost.collectives.items())
    return Bound(cost.flops / chip.flops, cost.hbm / chip.hbm_bandwidth, busy, cost.seconds)


def by_axis(cost: Cost, network: Network) -> list[dict]:
    """Collectives added up by kind and mesh axes: bytes that a device receives, how many."""
    found: dict[tuple[str, str], list[float]] = {}
    for collective, count in cost.collectives.items():
        entry = found.setdefault((collective.kind, network.spanned(collective)), [0, 0.0, 0.0])
        entry[0] += count
        entry[1] += count * collective.moved
        entry[2] += count * network.seconds(collective)
    rows: Sequence = sorted(found.items(), key=lambda item: -item[1][1])
    return [
        {"kind": kind, "axes": axes, "count": n, "bytes": moved, "seconds": seconds}
        for (kind, axes), (n, moved, seconds) in rows
    ]
