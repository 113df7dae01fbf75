"""Parser for the HLO text of compiled programs, which also derives the iteration counts of loops.

`pmc_jax.planning.cost` computes the costs.
"""

import dataclasses
import functools
import math
import re

# These are the HLO opcodes of the collectives.
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_LEFT = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = ")
_OPCODE = re.compile(r"\s*([\w-]+)\(")
_ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+\w*|c64|c128)\[([\d,]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_NAME = re.compile(r"%([\w.-]+)")
_NUMBER = re.compile(r"-?\d+")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# These instructions return the value of their only operand.
_SAME_VALUE = ("bitcast", "convert", "copy")


@dataclasses.dataclass(frozen=True)
class Array:
    """Size and memory space of one array that an instruction returns.

    Attributes:
        bits: number of bits per element.
        dims: size of each dimension.
        space: number of the memory space that the compiler chose. Space 0 is HBM, and most
            scalars have it too. All other spaces are on the chip.
    """

    bits: int
    dims: tuple[int, ...]
    space: int

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return self.bits * math.prod(self.dims) // 8

    @property
    def in_hbm(self) -> bool:
        return self.space == 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Instruction, which HLO text writes as `name = shape opcode(operands), rest`.

    Attributes:
        shape: arrays of the result. There is one array unless the result is a tuple.
        operands: names of the instructions whose results this instruction reads.
        inside: text between the parentheses.
        rest: text after the parentheses, which holds the attributes.
    """

    name: str
    opcode: str
    shape: tuple[Array, ...]
    operands: tuple[str, ...]
    inside: str
    rest: str

    def called(self, key: str) -> str | None:
        """Returns the name of the computation in the attribute `key`, or None if it is absent."""
        match = re.search(rf"\b{key}=%?([\w.-]+)", self.rest)
        return match[1] if match else None

    def attribute(self, key: str) -> str | None:
        """Returns the value of the attribute `key` as text, or None if the attribute is absent.

        The value ends before a comma or a space. A value that starts with a brace ends with the
        closing brace.
        """
        match = re.search(rf"\b{key}=(\{{\{{.*?\}}\}}|\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return match[1] if match else None

    @property
    def branches(self) -> list[str]:
        """Names of the computations from which a conditional chooses."""
        if match := re.search(r"branch_computations=\{([^}]*)\}", self.rest):
            return _NAME.findall(match[1])
        names = (self.called(f"{truth}_computation") for truth in ("true", "false"))
        return [name for name in names if name]


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions of one computation, in the order in which they run.

    Attributes:
        instructions: dict from name to instruction.
        root: name of the instruction that computes the result.
    """

    instructions: dict[str, Instruction]
    root: str

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """Instructions for the parameters of the computation, in the order of their numbers."""
        parameters = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(parameters, key=lambda i: int(i.inside))

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Dict from the name of an instruction to the instructions that read its result."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for name in dict.fromkeys(instruction.operands):
                users[name].append(instruction)
        return users


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations of a program by name, and the name of the entry computation."""

    computations: dict[str, Computation]
    entry: str

    def trips(self, loop: Instruction, within: Computation) -> int | None:
        """Returns the number of iterations of a `while`, or None if the number is not known.

        If the compiler has not recorded the number, this method derives it from the loop. The
        counter of the loop must start at a constant, grow by a constant and be compared with
        another constant.

        Args:
            loop: the `while` instruction.
            within: computation that contains the instruction.
        """
        if match := _TRIPS.search(loop.rest):
            return int(match[1])
        condition = self.computations[loop.called("condition")]
        body = self.computations[loop.called("body")]
        test = condition.instructions[condition.root]
        if test.opcode != "compare" or test.attribute("direction") not in ("LT", "NE"):
            return None
        counter, carried = (_element(condition, name) for name in test.operands)
        if counter is None:
            return None
        begin, end = self._initial(within, loop, counter), _constant(condition, test.operands[1])
        if carried is not None:  # The loop carries its limit unchanged.
            end = self._initial(within, loop, carried)
        root = body.instructions[body.root]
        step = _added(body, root.operands[counter], counter) if root.opcode == "tuple" else None
        if None in (begin, end, step) or step <= 0:
            return None
        return max(0, math.ceil((end - begin) / step))

    def _initial(self, within: Computation, loop: Instruction, index: int) -> int | None:
        source = within.instructions[loop.operands[0]]
        return _constant(within, source.operands[index]) if source.opcode == "tuple" else None


def _through(computation: Computation, name: str) -> Instruction:
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME_VALUE:
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _constant(computation: Computation, name: str) -> int | None:
    instruction = _through(computation, name)
    if instruction.opcode == "constant" and _NUMBER.fullmatch(instruction.inside):
        return int(instruction.inside)
    return None


def _element(computation: Computation, name: str) -> int | None:
    """Returns the index of an instruction's value in the tuple that a loop passes on.

    The result is None if the instruction does not return an element of the tuple unchanged.
    """
    instruction = _through(computation, name)
    if instruction.opcode != "get-tuple-element":
        return None
    source = computation.instructions[instruction.operands[0]]
    return int(instruction.attribute("index")) if source.opcode == "parameter" else None


def _added(body: Computation, name: str, index: int) -> int | None:
    """Returns the constant that one iteration adds to an element of the loop's tuple, or None.

    Args:
        body: body of the loop.
        name: name of the instruction that computes the new value of the element. The constant is 0
            if this value is the element itself.
        index: index of the element in the tuple.
    """
    if _element(body, name) == index:
        return 0
    instruction = _through(body, name)
    if instruction.opcode == "add":
        for term, other in (instruction.operands, instruction.operands[::-1]):
            step, before = _constant(body, other), _added(body, term, index)
            if step is not None and before is not None:
                return before + step
    return None


def parse(text: str) -> Module:
    """Parses the HLO text of a program, as `jax.stages.Compiled.as_text()` returns it."""
    computations: dict[str, Computation] = {}
    entry, name, root, instructions = "", "", "", {}
    for line in text.splitlines():
        if match := _HEADER.match(line):
            name, instructions = match[2], {}
            entry = name if match[1] else entry
        elif line.startswith("}"):
            computations[name] = Computation(instructions, root)
        elif match := _LEFT.match(line):
            instructions[match[2]] = _instruction(match[2], line[match.end() :])
            root = match[2] if match[1] else root
    return Module(computations, entry)


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith("(") else re.match(r"\S+", text).end()
    shape, opcode = text[:end], _OPCODE.match(text, end)
    close = _closing(text, opcode.end() - 1)
    inside = text[opcode.end() : close]
    return Instruction(
        name, opcode[1], _arrays(shape), tuple(_NAME.findall(inside)), inside, text[close + 1 :]
    )


def _closing(text: str, begin: int) -> int:
    """Returns the position of the parenthesis that closes the parenthesis at `begin`."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i
    raise ValueError(
        f"pmc plan cannot parse the HLO text {text[begin : begin + 60]!r}, because a parenthesis "
        "is not closed. Report this text and your versions of jax and libtpu to the developers of "
        "pmc_jax."
    )


@functools.lru_cache(maxsize=65536)
def _arrays(shape: str) -> tuple[Array, ...]:
    arrays = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.match(r"\D+(\d+)", dtype)[1])
        space = _SPACE.search(layout)
        sizes = tuple(int(n) for n in dims.split(",") if n)
        arrays.append(Array(bits, sizes, int(space[1]) if space else 0))
    return tuple(arrays)
