"""Published figures of TPU chips, for each device that jax sees.

Source: the system architecture pages of Cloud TPU (v4, v5e, v5p, v6e, TPU7x), read in 2026.
Bidirectional interconnect bandwidth of a chip is divided over its links and both directions; that
of the data-centre network is the pod's or host's, divided over its chips.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One jax device of a kind of TPU; a chip of v4 or TPU7x is two of them.

    Attributes:
        name: as in the name of a topology.
        devices: of a chip.
        flops: bfloat16 peak of a device, FLOP/s.
        hbm: bytes of memory of a device that the compiler gives to programs, a little less than is
            published.
        hbm_bandwidth: bytes/s of a device.
        link: bytes/s of one link between chips, in one direction.
        wrap: a dimension of the slice is a ring where its length is a multiple of this.
        dcn: bytes/s of a device to other slices.
        clock: cycles/s that the compiler's estimates are in: what its matrix units need to reach
            the peak.
        dimensions: of the topology.
        largest: sizes of the largest slice.
    """

    name: str
    devices: int
    flops: float
    hbm: float
    hbm_bandwidth: float
    link: float
    wrap: int
    dcn: float
    clock: float
    dimensions: int
    largest: tuple[int, ...]


_GIB = 2**30
_V4 = Chip("v4", 2, 137.5e12, 15.25 * _GIB, 614e9, 50e9, 4, 3.125e9, 1.05e9, 3, (16, 16, 16))
_V5E = Chip("v5e", 1, 197e12, 15.75 * _GIB, 819e9, 50e9, 16, 3.125e9, 1.5e9, 2, (16, 16))
_V5P = Chip("v5p", 1, 459e12, 95.74 * _GIB, 2765e9, 100e9, 4, 6.25e9, 1.75e9, 3, (16, 20, 28))
_V6E = Chip("v6e", 1, 918e12, 31.25 * _GIB, 1640e9, 100e9, 16, 12.5e9, 1.75e9, 2, (16, 16))
_TPU7X = Chip("tpu7x", 2, 1153.5e12, 94.75 * _GIB, 3690e9, 100e9, 4, 6.25e9, 2.2e9, 3, (16, 24, 24))
_KINDS = {"TPU v4": _V4, "TPU v5 lite": _V5E, "TPU v5": _V5P, "TPU v6 lite": _V6E, "TPU7x": _TPU7X}
CHIPS = {chip.name: chip for chip in (_V4, _V5E, _V5P, _V6E, _TPU7X)}


def chip_of(device_kind: str) -> Chip | None:
    """The chip behind `jax.Device.device_kind`; None where its figures are not here."""
    return _KINDS.get(device_kind)
