"""Tables that map the tensors of a checkpoint to the parameters of the decoder.

Each family has one table of entries, which both import and export use. The axis letters are those
of `pmc_jax.models.decoder` in lower case, but n counts the query heads where a parameter has them.
This module handles no weights.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping

from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.parameters import parameters

# In `Entry.theirs`, this letter is the axis over parts of a tensor whose parts alternate.
PART = "p"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Table entry for one tensor of a checkpoint, or for one tensor per layer.

    Attributes:
        pattern: name of the tensor; `{i}` is the number of the layer.
        parts: pair (name, axis letters without L) for every parameter that the tensor holds.
        theirs: for each dimension of the tensor, the letters of the axes that it flattens, from
            the outermost to the innermost.
        joined: dimension along which several parts are concatenated; None = there is one part, or
            the parts alternate along an axis with the letter `PART` in `theirs`.
    """

    pattern: str
    parts: tuple[tuple[str, str], ...]
    theirs: tuple[str, ...]
    joined: int | None = None

    @property
    def stacked(self) -> bool:
        """Whether every layer has its own tensor."""
        return self.parts[0][0].startswith("layers.")


def single(pattern: str, parameter: str, ours: str, *theirs: str) -> Entry:
    """Returns an entry for a tensor that holds one parameter.

    Args:
        pattern: name of the tensor; `{i}` is the number of the layer.
        parameter: name of the parameter.
        ours: axis letters of the parameter, without L.
        theirs: axis letters of each dimension of the tensor.
    """
    return Entry(pattern, ((parameter, ours),), theirs)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Name and shape of a tensor in a checkpoint, with its table entry and its layer.

    `layer` is None for tensors outside the layers.
    """

    name: str
    entry: Entry
    layer: int | None
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Naming:
    """Mapping from the tensors of one checkpoint to the parameters of the decoder.

    Attributes:
        entries: table entries for the tensors that the decoder reads.
        head: name of a tensor that repeats the embedding as output projection; None = no such
            tensor.
        carried: names of tensors outside the decoder. An export copies them unchanged.
        buffers: names of constants, such as masks. An export leaves them out, because transformers
            computes them itself and reports them as unexpected.
    """

    entries: tuple[Entry, ...]
    head: str | None = None
    carried: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()

    @staticmethod
    def of(
        entries: Iterable[Entry],
        config: DecoderConfig,
        names: Iterable[str],
        variants: Iterable[Mapping[str, str]] = (),
        carried: Iterable[str] = (),
        buffers: Iterable[str] = (),
    ) -> "Naming":
        """Builds the mapping for a checkpoint from the names of its tensors.

        Args:
            entries: table of the model family.
            config: configuration of the decoder.
            names: names of the tensors in the checkpoint.
            variants: dicts from a prefix of names to its replacement in some checkpoints.
            carried: shell-style patterns for the names of tensors outside the decoder.
            buffers: shell-style patterns for the names of constants.
        """
        names, table = set(names), parameters(config)
        entries = [e for e in entries if e.parts[0][0] in table or e.parts[0][0] == "head"]
        for variant in ({}, *variants):
            candidates = renamed(entries, variant)
            if any(e.parts[0][0] == "embed" and e.pattern in names for e in candidates):
                entries = candidates
                break
        heads = [e.pattern for e in entries if e.parts[0][0] == "head"]
        entries = tuple(e for e in entries if e.parts[0][0] in table)
        tied = heads[0] if config.tie_embeddings and names.intersection(heads) else None
        return Naming(entries, tied, _matching(names, carried), _matching(names, buffers))

    def find(self, parameter: str) -> tuple[Entry, int]:
        """Returns the entry that holds a parameter, and the parameter's index in `Entry.parts`."""
        for entry in self.entries:
            for number, (name, _) in enumerate(entry.parts):
                if name == parameter:
                    return entry, number
        raise KeyError(parameter)

    def tensors(self, config: DecoderConfig) -> Iterator[Tensor]:
        """Yields every tensor that holds parameters of the decoder, with its name and shape."""
        for entry in self.entries:
            shape = tensor_shape(entry, config)
            for i in range(config.num_layers) if entry.stacked else (None,):
                yield Tensor(entry.pattern.format(i=i), entry, i, shape)


def _matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    matches = {name for p in patterns for name in names if fnmatch.fnmatchcase(name, p)}
    return tuple(sorted(matches))


def renamed(entries: Iterable[Entry], prefixes: Mapping[str, str]) -> tuple[Entry, ...]:
    """Returns entries whose tensor names have other prefixes.

    Args:
        prefixes: dict from a prefix of names to its replacement.
    """
    return tuple(dataclasses.replace(e, pattern=_rename(e.pattern, prefixes)) for e in entries)


def _rename(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def axis_sizes(entry: Entry, number: int, config: DecoderConfig) -> dict[str, int]:
    """Returns a dict from axis letter to size for one parameter of an entry.

    `number` is the index of the parameter in `Entry.parts`.
    """
    name, ours = entry.parts[number]
    shape = parameters(config)[name].shape[entry.stacked :]
    return {PART: len(entry.parts), **dict(zip(ours, shape, strict=True))}


def tensor_shape(entry: Entry, config: DecoderConfig) -> tuple[int, ...]:
    """Returns the shape of the tensor of an entry in a checkpoint."""
    shapes = []
    for number in range(len(entry.parts)):
        sizes = axis_sizes(entry, number, config)
        shapes.append([math.prod(sizes[axis] for axis in group) for group in entry.theirs])
    if entry.joined is not None:
        shapes[0][entry.joined] = sum(shape[entry.joined] for shape in shapes)
    return tuple(shapes[0])


def part_begin(entry: Entry, number: int, config: DecoderConfig) -> int:
    """Returns the index at which a parameter begins along the joined dimension of its tensor.

    `number` is the index of the parameter in `Entry.parts`.
    """
    group = entry.theirs[entry.joined]
    sizes = (axis_sizes(entry, before, config) for before in range(number))
    return sum(math.prod(size[axis] for axis in group) for size in sizes)
