"""Parser for the notations of HLO for the groups of partitions that run a collective together."""

import math
import re

import numpy as np

from pmc_jax.planning.hlo import Instruction

_LIST = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_IDS = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
_MESH = re.compile(rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({_IDS}\))? \{{([^}}]*)\}}")
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?(?:=(\d+))?")
_PAIR = re.compile(r"\{(\d+),(\d+)\}")


def source_target_pairs(instruction: Instruction) -> tuple[tuple[int, int], ...]:
    """Returns the pairs (source partition, target partition) of a collective-permute."""
    text = re.search(r"source_target_pairs=\{(.*?)\}\}", instruction.rest)[1] + "}"
    return tuple((int(a), int(b)) for a, b in _PAIR.findall(text))


def replica_group(instruction: Instruction) -> tuple[int, ...]:
    """Returns the partitions of one group of a collective, mostly the group of partition 0.

    Raises:
        ValueError: the notation is unknown.
    """
    rest = instruction.rest
    if match := _LIST.search(rest):
        return _numbers(match[1])
    if match := _IOTA.search(rest):
        ids = np.arange(math.prod(_numbers(match[2]))).reshape(_numbers(match[2]))
        if match[3]:
            ids = ids.transpose(_numbers(match[3]))
        rows = ids.reshape(_numbers(match[1]))
        return tuple(int(i) for i in rows[np.nonzero((rows == 0).any(1))[0][0]])
    if match := _MESH.search(rest):
        return _mesh_group(*match.groups())
    raise ValueError(
        f"pmc plan cannot parse the device groups in {rest[:200]!r}. Report this text and your "
        "versions of jax and libtpu to the developers of pmc_jax."
    )


def slices_group(instruction: Instruction) -> tuple[int, ...]:
    """Returns the numbers 0 to n - 1 for a transfer between n slices over the data-centre network.

    Each device exchanges data with the corresponding devices of the other slices.
    """
    count = 0
    for part in re.search(r'_xla_megascale_target="\{([^}]*)\}', instruction.rest)[1].split(","):
        begin, _, end = part.partition(":")
        count += int(end or begin) - int(begin) + 1
    return tuple(range(count))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _mesh_group(axes: str, order: str | None, turned: str | None, grouped: str) -> tuple[int, ...]:
    """Returns the partitions of the first group that HLO text gives in mesh notation.

    Args:
        axes: names and sizes of the mesh axes, such as `'a'=4,'b'=2`.
        order, turned: shape and permutation of the partition ids, which HLO text writes as in
            `[2,4]T(1,0)`; None = ids in increasing order.
        grouped: axes along which a group extends, such as `'a'`. `'a':(2)2` is a part of an axis.
    """
    sizes = {name: int(size) for name, _, _, size in _AXIS.findall(axes)}
    ids = np.arange(math.prod(sizes.values()))
    if turned is not None:
        ids = ids.reshape(_numbers(order)).transpose(_numbers(turned))
    ids = ids.reshape(tuple(sizes.values()))
    index = {name: np.zeros(1, int) for name in sizes}
    for name, before, size, _ in _AXIS.findall(grouped):
        before, count = (int(before), int(size)) if size else (1, sizes[name])
        index[name] = np.arange(count) * (sizes[name] // (before * count))
    # The first partition of the mesh may not be 0, but its group has the same form.
    return tuple(int(i) for i in ids[np.ix_(*index.values())].ravel())
