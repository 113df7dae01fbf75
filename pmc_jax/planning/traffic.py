"""Memory traffic of an instruction: the bytes that it reads from and writes to HBM.

Arrays in on-chip memory do not count. If an instruction reads only a slice of an array, the bytes
of the slice count. If it updates an array in place, the bytes of the update count.
"""

from pmc_jax.planning.hlo import KINDS, Array, Computation, Instruction, Module

# These opcodes have no traffic of their own.
_FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "while", "conditional", "call", "iota", "reshape",
}  # fmt: skip
_FREE_CALLS = ('"AllocateBuffer"', '"AssumeGatherIndicesInBound"', '"ConcatBitcast"')
_SLICING = ("dynamic-slice", "slice", "gather")
_SAME = ("bitcast", "reshape", "convert", "copy", "transpose")


def traffic(instruction: Instruction, computation: Computation, module: Module) -> float:
    """Computes the bytes that one run of an instruction reads from and writes to HBM.

    `computation` contains the instruction, and `module` contains the computation.
    """
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0.0
    operands = [computation.instructions[name].shape for name in instruction.operands]
    if opcode == "fusion":
        inside = module.computations[instruction.called("calls")]
        return _fusion_traffic(instruction, inside, operands)
    if opcode == "custom-call" and instruction.attribute("custom_call_target") in _FREE_CALLS:
        return 0.0
    if opcode in ("copy-start", "slice-start"):
        # The destination is the second part of a slice-start, but the first part of a copy-start.
        to = instruction.shape[1 if opcode == "slice-start" else 0]
        source = operands[0][0]
        return to.size * (source.in_hbm + to.in_hbm)
    if opcode in ("send", "recv"):
        return instruction.shape[0].size
    if opcode in _SLICING:
        return _in_hbm(instruction.shape) + instruction.shape[0].size * operands[0][0].in_hbm
    if opcode == "dynamic-update-slice":
        return _in_hbm(operands[1]) + operands[1][0].size * instruction.shape[0].in_hbm
    if opcode.removesuffix("-start") in KINDS and opcode.endswith("-start"):
        return _in_hbm(instruction.shape)
    return _in_hbm(instruction.shape) + sum(map(_in_hbm, operands))


def _in_hbm(arrays: tuple[Array, ...]) -> int:
    return sum(array.size for array in arrays if array.in_hbm)


def _fusion_traffic(
    fusion: Instruction, inside: Computation, operands: list[tuple[Array, ...]]
) -> float:
    total = 0
    for parameter, operand in zip(inside.parameters, operands, strict=True):
        if operand and operand[0].in_hbm:
            total += _read_of(parameter, inside)
    root = inside.instructions[inside.root]
    roots = [inside.instructions[n] for n in root.operands] if root.opcode == "tuple" else [root]
    if len(roots) == len(fusion.shape):
        for made, array in zip(roots, fusion.shape, strict=True):
            total += _written(made, inside, array) if array.in_hbm else 0
    return total


def _read_of(parameter: Instruction, inside: Computation) -> int:
    """Computes the bytes that a fusion reads from the operand for one of its parameters.

    `inside` is the computation of the fusion.
    """
    whole, total, names = parameter.shape[0].size, 0, [parameter.name]
    while names:
        name = names.pop()
        for user in inside.users[name]:
            if user.opcode in _SLICING and user.operands[0] == name:
                total += user.shape[0].size
            elif user.opcode == "dynamic-update-slice" and user.operands[0] != name:
                return whole
            elif user.opcode in ("dynamic-update-slice", *KINDS, "tuple", "custom-call"):
                continue
            elif user.opcode in _SAME:
                names.append(user.name)
            else:
                return whole
    return min(total, whole)


def _written(made: Instruction, inside: Computation, array: Array) -> int:
    """Computes the bytes that a fusion writes to one of its results.

    Args:
        made: instruction that computes the result.
        inside: computation of the fusion.
        array: array of the result.
    """
    while made.opcode in _SAME:
        made = inside.instructions[made.operands[0]]
    if made.opcode == "dynamic-update-slice":
        return inside.instructions[made.operands[1]].shape[0].size
    if made.opcode in ("parameter", *KINDS, "custom-call"):
        return 0  # These values are not written here. A collective has network traffic instead.
    return array.size
