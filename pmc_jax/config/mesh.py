"""Settings of the mesh of devices (section `mesh`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from pmc_jax.config.schema import KEYS, Check, Section, setting
from pmc_jax.config.sharding import LOGICAL_AXES, rule_faults

_AXIS = Check("-1 (all remaining devices) or at least 1", lambda size: size == -1 or size >= 1)
_SLICES = Check("-1 (detected) or at least 1", lambda size: size == -1 or size >= 1)
_LOGICAL = {KEYS: LOGICAL_AXES}


@dataclass(frozen=True)
class MeshConfig(Section):
    """The number of devices along each mesh axis, and changes to the sharding rules.

    One of `data`, `fsdp` and `tensor` may be -1, which selects all remaining devices.

    Fields:
        data: number of copies of the model in a slice.
        fsdp: number of shards of weights and optimizer state; weights are gathered layer by layer.
        tensor: number of shards of heads, hidden units and vocabulary.
        slices: number of slices, which are groups of devices that the data-centre network joins;
            each slice holds complete copies of the model; -1 selects the number that the devices
            report.
        train_rules: mapping from logical axes to mesh axes, which replaces rows of the sharding
            table for training (see `pmc_jax.config.sharding`).
        sample_rules: mapping from logical axes to mesh axes, which replaces rows of the sharding
            table for sampling.

    Example:
        >>> pmc.MeshConfig(fsdp=4, tensor=2)
        MeshConfig(fsdp=4, tensor=2)
    """

    data: int = setting(-1, _AXIS)
    fsdp: int = setting(1, _AXIS)
    tensor: int = setting(1, _AXIS)
    slices: int = setting(1, _SLICES)
    train_rules: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=_LOGICAL)
    sample_rules: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=_LOGICAL)

    def cross_faults(self) -> list[str]:
        rest = [name for name in ("data", "fsdp", "tensor") if getattr(self, name) == -1]
        faults = [*rule_faults(self.train_rules, "train_rules")]
        faults += rule_faults(self.sample_rules, "sample_rules")
        if len(rest) > 1:
            faults += [
                f"{rest[1]}: only one axis may be -1, but {rest[0]} is also -1. Set one of "
                "the two to a number of devices."
            ]
        return faults
