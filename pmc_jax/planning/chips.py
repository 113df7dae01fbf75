"""Published figures of TPU chips, per jax device.

The source is the system architecture pages of Cloud TPU (v4, v5e, v5p, v6e, TPU7x), read in 2026.
The bidirectional interconnect bandwidth of a chip is divided by its links and both directions. The
data-centre bandwidth of a pod or host is divided by its chips.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of one jax device for a kind of TPU. A v4 or TPU7x chip has two devices.

    Attributes:
        name: name in a topology, such as "v5e".
        device_kind: value of `jax.Device.device_kind`.
        devices: devices per chip.
        flops: peak rate of a device in bfloat16, FLOP/s.
        hbm: bytes of device memory that the compiler gives to programs, which are slightly fewer
            than the published bytes.
        hbm_bandwidth: bytes/s of a device.
        link: bytes/s of one link between chips, in one direction.
        wrap: number of which a dimension's length is a multiple if the dimension is a ring.
        dcn: bytes/s from a device to other slices.
        clock: cycles/s in the compiler's estimates, at which the matrix units reach the peak rate.
        largest: length of the largest slice in each dimension.
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
