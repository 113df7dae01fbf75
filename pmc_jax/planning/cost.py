"""Cost of a compiled program on one device in FLOPs, memory traffic, collectives and cycles.

A loop body counts once per iteration. If the number of iterations depends on data, the body counts
once, so a call of the decoder counts as one step. A conditional counts as its cheapest branch.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable

import jax
import numpy as np

from pmc_jax.planning.groups import replica_group, slices_group, source_target_pairs
from pmc_jax.planning.hlo import KINDS, Computation, Instruction, Module, parse
from pmc_jax.planning.traffic import traffic

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
# Transfers between slices pass through the hosts.
_MEETING = re.compile(r'_xla_host_transfer_rendezvous="([^"]+)"')
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collective operation in a program. Each device runs one partition of the program.

    Attributes:
        kind: one of `KINDS`.
        result: bytes of the results on one device.
        group: numbers of the partitions of one group, which exchange data with each other. The
            group is (0, 1) if `pairs` is given, and it has numbers of slices if `across` is True.
        pairs: (source, target) partitions of a collective-permute; () for other kinds.
        across: whether the collective runs between slices over the data-centre network.
    """

    kind: str
    result: int
    group: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    across: bool = False

    @property
    def moved(self) -> float:
        """Number of bytes that each of the n devices of the group receives.

        The number is (n-1)/n of the bytes of the complete array, and twice as large for an
        all-reduce. For a collective-permute, the number is the size of the result.
        """
        n = len(self.group)
        if self.kind == "collective-permute":
            return self.result
        if self.kind == "reduce-scatter":
            return self.result * (n - 1)
        return self.result * (n - 1) / n * (2 if self.kind == "all-reduce" else 1)


@dataclasses.dataclass
class Cost:
    """Cost of a program, or of a part of a program, on one device.

    Attributes:
        flops: FLOPs of matrix products and convolutions.
        hbm: bytes that are read from or written to HBM.
        collectives: dict from each collective to its number of runs.
        cycles: sum of the clock cycles that the compiler estimates.
        seconds: estimated time in seconds: the time of these cycles, plus the time in which the
            device waits for collectives.
    """

    flops: float = 0.0
    hbm: float = 0.0
    collectives: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    cycles: float = 0.0
    seconds: float = 0.0

    def add(self, other: "Cost", times: int = 1) -> None:
        self.flops += times * other.flops
        self.hbm += times * other.hbm
        self.cycles += times * other.cycles
        self.seconds += times * other.seconds
        for collective, count in other.collectives.items():
            self.collectives[collective] += times * count


def program_cost(
    module: Module,
    *,
    clock: float = 1.0,
    collective_seconds: Callable[[Collective], float] = lambda collective: 0.0,
) -> Cost:
    """Computes the cost of one run of a program.

    Args:
        module: the parsed program.
        clock: clock cycles per second.
        collective_seconds: function that returns the time in seconds of a collective alone.
    """
    return _Counter(module, clock, collective_seconds).of(module.entry)


class _Counter:
    def __init__(self, module: Module, clock: float, seconds: Callable[[Collective], float]):
        self._module, self._clock, self._seconds = module, clock, seconds
        self._costs: dict[str, Cost] = {}

    def of(self, name: str) -> Cost:
        if name not in self._costs:
            self._costs[name] = self._walk(self._module.computations[name])
        return self._costs[name]

    def _walk(self, computation: Computation) -> Cost:
        """Sums the costs of all instructions of a computation.

        The instructions are in the order of the schedule, so the waits for collectives are known.
        """
        cost, ends, free = Cost(), {}, collections.Counter()
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode in ("while", "call", "conditional"):
                cost.add(*self._inner(instruction, computation))
                continue
            key = self._waited_for(instruction, computation)
            if key in ends:
                cost.seconds = max(cost.seconds, ends.pop(key))
            collective, key = self._collective(instruction, computation)
            if collective is not None:
                cost.collectives[collective] += 1
                # Collectives of the same group share their links, so they run one after another.
                lane = collective.across or collective.pairs or collective.group
                begin = max(cost.seconds, free[lane])
                ends[key] = free[lane] = begin + self._seconds(collective)
                if key is None:
                    cost.seconds = ends.pop(None)
            cost.flops += self._flops(instruction, computation)
            cost.hbm += traffic(instruction, computation, self._module)
            if cycles := _CYCLES.search(instruction.rest):
                cost.cycles += int(cycles[1])
                cost.seconds += int(cycles[1]) / self._clock
        return cost

    def _inner(self, instruction: Instruction, computation: Computation) -> tuple[Cost, int]:
        if instruction.opcode == "while":
            trips = self._module.trips(instruction, computation)
            return self.of(instruction.called("body")), 1 if trips is None else trips
        if instruction.opcode == "call":
            return self.of(instruction.called("to_apply")), 1
        branches = [self.of(name) for name in instruction.branches]
        return min(branches, key=lambda cost: (cost.flops, cost.hbm, cost.cycles)), 1

    def _collective(
        self, instruction: Instruction, computation: Computation
    ) -> tuple[Collective | None, str | None]:
        """Returns the collective that an instruction starts, and the key of its end.

        The instruction that ends the collective has the same key, see `_waited_for`. The key is
        None if this instruction also ends the collective. The collective is None if the
        instruction starts no collective.
        """
        kind = instruction.opcode.removesuffix("-start")
        if kind in KINDS:
            is_async = instruction.opcode != kind
            return described(instruction, computation), instruction.name if is_async else None
        if instruction.opcode == "send" and (sent := _between_slices(instruction)):
            return sent, _MEETING.search(instruction.rest)[1]
        if instruction.opcode != "fusion":
            return None, None
        inside, own, targets = self._fused(instruction)
        if not own or '"AsyncCollectiveDone"' in targets:
            return None, None
        begins = '"AsyncCollectiveStart"' in targets
        if not begins and "async_collective_fusion_config" in own[0].rest:
            return None, None  # This product overlaps with a collective that started earlier.
        collective = described(own[0], inside)
        scattered = any(i.opcode == "dynamic-slice" for i in inside.instructions.values())
        if collective.kind == "all-reduce" and scattered:
            group = collective.group
            collective = Collective("reduce-scatter", collective.result // len(group), group)
        return collective, _CHANNEL.search(own[0].rest)[0] if begins else None

    def _waited_for(self, instruction: Instruction, computation: Computation) -> str | None:
        """Returns the key of the collective that an instruction ends, or None if it ends none.

        See `_collective`.
        """
        if instruction.opcode == "recv-done":
            match = _MEETING.search(computation.instructions[instruction.operands[0]].rest)
            return match[1] if match else None
        if instruction.opcode.endswith("-done"):
            return instruction.operands[0]
        if instruction.opcode == "fusion":
            _, own, targets = self._fused(instruction)
            if own and '"AsyncCollectiveDone"' in targets:
                return _CHANNEL.search(own[0].rest)[0]
        return None

    def _fused(self, fusion: Instruction) -> tuple[Computation, list[Instruction], set[str | None]]:
        """Returns a fusion's computation, its collectives and the targets of its custom calls."""
        inside = self._module.computations[fusion.called("calls")]
        instructions = inside.instructions.values()
        targets = {i.attribute("custom_call_target") for i in instructions}
        return inside, [i for i in instructions if i.opcode in KINDS], targets

    def _flops(self, instruction: Instruction, computation: Computation) -> float:
        if instruction.opcode == "convolution":
            return _convolution_flops(instruction, computation)
        if instruction.opcode == "dot":
            return _dot_flops(instruction, computation)
        if instruction.opcode == "fusion":
            inside = self._module.computations[instruction.called("calls")]
            return sum(self._flops(i, inside) for i in inside.instructions.values())
        return 0.0


def described(instruction: Instruction, computation: Computation) -> Collective:
    """Returns a description of the collective that an instruction runs or starts."""
    kind = instruction.opcode.removesuffix("-start")
    shape = [a for a in instruction.shape if a.dims or kind == "all-reduce"]
    result = sum(a.size for a in shape)
    if instruction.opcode != kind and kind in ("all-gather", "collective-permute"):
        # The shape is a tuple of the operands and the results.
        operands = (computation.instructions[name].shape for name in instruction.operands)
        result -= sum(array.size for shape in operands for array in shape)
    pairs = source_target_pairs(instruction) if kind == "collective-permute" else ()
    group = (0, 1) if pairs else replica_group(instruction)
    return Collective(kind, result, group, pairs)


def _between_slices(send: Instruction) -> Collective | None:
    kind = _TRANSFER.search(send.rest)
    kind = kind[1].lower().replace("_", "-") if kind else ""
    if kind not in KINDS:
        return None
    return Collective(kind, send.shape[0].size, slices_group(send), across=True)


def collective_bytes(program: jax.stages.Compiled) -> dict[str, int]:
    """Computes the bytes that the collectives of one run produce on one device.

    The result is a dict from kind (`KINDS`) to bytes.
    """
    total: collections.Counter[str] = collections.Counter()
    for collective, count in program_cost(parse(program.as_text())).collectives.items():
        total[collective.kind] += count * collective.result
    return dict(total)


def _dot_flops(dot: Instruction, computation: Computation) -> float:
    left = computation.instructions[dot.operands[0]].shape[0].dims
    axes = dot.attribute("lhs_contracting_dims") or "{}"
    contracted = math.prod(left[int(i)] for i in re.findall(r"\d+", axes))
    return 2.0 * math.prod(dot.shape[0].dims) * contracted


def _convolution_flops(convolution: Instruction, computation: Computation) -> float:
    """Computes the FLOPs of a convolution.

    The number is 2 x batch x output features x input features x pairs. A pair is an output position
    and a kernel position at which the convolution reads an input, not padding. On TPU, every matrix
    product is a convolution whose batch axes are dilated windows.
    """
    left, right = (computation.instructions[n].shape[0].dims for n in convolution.operands[:2])
    names = re.match(r"(\w+)_(\w+)->(\w+)", convolution.attribute("dim_labels"))
    window = dict(
        item.split("=") for item in (convolution.attribute("window") or "{}").strip("{}").split()
    )

    def size(dims: tuple[int, ...], which: int, name: str) -> int:
        return dims[names[which].index(name)]

    def option(key: str, axis: int, default: int) -> int:
        return int(window[key].split("x")[axis].split("_")[0]) if key in window else default

    groups = int(convolution.attribute("batch_group_count") or 1)
    features = size(right, 2, "o") * size(right, 2, "i")
    total = 2.0 * size(left, 1, "b") / groups * features
    for axis in range(sum(name.isdigit() for name in names[1])):
        base, kernel = size(left, 1, str(axis)), size(right, 2, str(axis))
        out = size(convolution.shape[0].dims, 3, str(axis))
        spread, apart = option("lhs_dilate", axis, 1), option("rhs_dilate", axis, 1)
        first = np.arange(out)[:, None] * option("stride", axis, 1) - option("pad", axis, 0)
        i = first + np.arange(kernel)[None] * apart
        total *= int(np.sum((i % spread == 0) & (i >= 0) & (i // spread < base)))
    return total
