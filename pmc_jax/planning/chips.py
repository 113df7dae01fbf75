"""Figures of TPU chips, per jax device.

They come from the system architecture pages of Cloud TPU (v4, v5e, v5p, v6e, TPU7x), read in 2026,
except `hbm`, which is the memory that the compiler gives to programs, and `clock`, which follows
from the peak rate. The bandwidth of a link in one direction is the bidirectional interconnect
bandwidth of a chip divided by twice the number of its links. The data-centre bandwidth of a device
is that of its pod or host divided by the number of devices there.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of one jax device for a kind of TPU. A v4 or TPU7x chip has two devices.

    Attributes:
        name: name in a topology, such as "v5e".
        device_kind: value of `jax.Device.device_kind`.
        devices: number of jax devices per chip.
        flops: peak FLOP/s of a device in bfloat16.
        hbm: bytes of device memory that programs can use. The published size is slightly larger.
        hbm_bandwidth: bytes/s between a device and its memory.
        link: bytes/s of one link between chips, in one direction.
        wrap: a dimension of a slice is a ring if its length is a multiple of this number.
        dcn: bytes/s from a device to other slices over the data-centre network.
        clock: cycles/s at which the matrix units reach the peak rate, to convert the cycles that
            the compiler estimates to seconds.
        largest: number of chips in each dimension of the largest slice.
    """

    name: str
    device_kind: str
    devices: int
    flops: float
    hbm: float
    hbm_bandwidth: float
    link: float
    wrap: int
    dcn: float
    clock: float
    largest: tuple[int, ...]


_G = 2**30  # This is the number of bytes in a GiB.
_V4 = Chip("v4", "TPU v4", 2, 137.5e12, 15.25 * _G, 614e9, 5e10, 4, 3.125e9, 1.05e9, (16, 16, 16))
_V5E = Chip("v5e", "TPU v5 lite", 1, 197e12, 15.75 * _G, 819e9, 5e10, 16, 3.125e9, 1.5e9, (16, 16))
_V5P = Chip("v5p", "TPU v5", 1, 459e12, 95.74 * _G, 2765e9, 1e11, 4, 6.25e9, 1.75e9, (16, 20, 28))
_V6 = Chip("v6e", "TPU v6 lite", 1, 918e12, 31.25 * _G, 1.64e12, 1e11, 16, 12.5e9, 1.75e9, (16, 16))
_V7 = Chip(
    "tpu7x", "TPU7x", 2, 1.1535e15, 94.75 * _G, 3.69e12, 1e11, 4, 6.25e9, 2.2e9, (16, 24, 24)
)
CHIPS = {chip.name: chip for chip in (_V4, _V5E, _V5P, _V6, _V7)}
