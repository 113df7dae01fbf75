"""Published figures of TPU chips, per jax device.

Source: the system architecture pages of Cloud TPU (v4, v5e, v5p, v6e, TPU7x), read in 2026.
The bidirectional interconnect bandwidth of a chip is divided by its links and both directions. The
bandwidth of the data-centre network is that of the pod or host, divided by its chips.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of one jax device of a kind of TPU; a v4 or TPU7x chip has two devices.

    Attributes:
        name: name in a topology, such as "v5e".
        device_kind: value of `jax.Device.device_kind`.
        devices: devices per chip.
        flops: bfloat16 peak of a device, FLOP/s.
        hbm: bytes of device memory that the compiler gives to programs, slightly less than the
            published size.
        hbm_bandwidth: bytes/s of a device.
        link: bytes/s of one link between chips, in one direction.
        wrap: a dimension of the slice is a ring if its length is a multiple of this.
        dcn: bytes/s of a device to other slices.
        clock: cycles/s of the compiler's estimates, at which the matrix units reach the peak.
        largest: size of the largest slice in each dimension.
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


_G = 2**30  # bytes in a GiB
_V4 = Chip("v4", "TPU v4", 2, 137.5e12, 15.25 * _G, 614e9, 5e10, 4, 3.125e9, 1.05e9, (16, 16, 16))
_V5E = Chip("v5e", "TPU v5 lite", 1, 197e12, 15.75 * _G, 819e9, 5e10, 16, 3.125e9, 1.5e9, (16, 16))
_V5P = Chip("v5p", "TPU v5", 1, 459e12, 95.74 * _G, 2765e9, 1e11, 4, 6.25e9, 1.75e9, (16, 20, 28))
_V6 = Chip("v6e", "TPU v6 lite", 1, 918e12, 31.25 * _G, 1.64e12, 1e11, 16, 12.5e9, 1.75e9, (16, 16))
_V7 = Chip(
    "tpu7x", "TPU7x", 2, 1.1535e15, 94.75 * _G, 3.69e12, 1e11, 4, 6.25e9, 2.2e9, (16, 24, 24)
)
CHIPS = {chip.name: chip for chip in (_V4, _V5E, _V5P, _V6, _V7)}
