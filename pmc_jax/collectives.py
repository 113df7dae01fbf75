"""What the devices tell each other: collectives of a compiled program, counted over its loops."""

import collections
import math
import re

import jax

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"(pred|bf16|[suf]\d+)\[([\d,]*)\]")


def collective_bytes(program: jax.stages.Compiled) -> dict[str, int]:
    """Bytes of the results of all collectives on one device, by kind (`KINDS`), of one run.

    A loop whose trip count the compiler knows counts that often, any other once: of a decode
    segment this is one step.
    """
    computations, entry = _computations(program.as_text())
    total: collections.Counter[str] = collections.Counter()

    def visit(name: str, times: int) -> None:
        for line in computations.get(name, ()):
            if found := _COLLECTIVE.search(line):
                total[found[2]] += times * _size(found[1], begun=found[3] is not None)
            called = _CALLED.findall(line) if " reduce" not in line else []
            for branches in _BRANCHES.findall(line):
                called += [branch.strip().lstrip("%") for branch in branches.split(",")]
            trips = _TRIPS.search(line)
            for other in called:
                visit(other, times * int(trips[1]) if trips else times)

    visit(entry, 1)
    return dict(total)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Lines of each computation, and the name of the one that is run."""
    computations: dict[str, list[str]] = {}
    entry = ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            lines = computations.setdefault(found[1], [])
            entry = found[1] if line.startswith("ENTRY") else entry
        elif line.startswith("  "):
            lines.append(line)
    return computations, entry


def _size(shape: str, *, begun: bool) -> int:
    """Bytes of an HLO shape or tuple of shapes; `begun`, a tuple holds operands, then results."""
    begun, sizes = begun and shape.startswith("("), []
    for dtype, axes in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        if axes or not begun:  # what is left out is the state of the transfer
            sizes.append(bits // 8 * math.prod(map(int, filter(None, axes.split(",")))))
    return sum(sizes[len(sizes) // 2 :] if begun else sizes)
