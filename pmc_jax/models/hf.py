"""Conversion between the tensors of a checkpoint and the parameters of the decoder.

The table of the model family (`pmc_jax.models.tensors`) describes the conversion. Weights are read
from the file directly into sharded arrays. For each device, at most the rows that contain its slice
of a parameter are read. This module handles no tokenizer and no configuration file.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.distributed.mesh import Layout
from pmc_jax.distributed.multihost import host_array
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.parameters import parameters
from pmc_jax.models.safetensors_folder import DTYPES
from pmc_jax.models.tensors import PART, Naming, Tensor, axis_sizes, part_begin

_COMPARED_ROWS = 4096


class TensorSource(Protocol):
    """File or folder whose tensors are read with the names and the layout of Hugging Face."""

    path: Path

    def names(self) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str:
        """Returns the dtype of a tensor, such as `float32`, `float16` or `bfloat16`."""

    def where(self, name: str) -> str:
        """Returns the path of the file that holds the tensor."""

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Reads only the part of a tensor that `index` selects.

        Args:
            name: name of the tensor.
            index: one slice of step 1 for each dimension.
        """


def check(source: TensorSource, naming: Naming, config: DecoderConfig) -> None:
    """Checks that a checkpoint has the tensors, shapes and dtypes that the configuration requires.

    Weights are read only if the checkpoint has an output projection although the configuration ties
    it to the embedding. The function then compares the two.

    Raises:
        UserError: a tensor is missing or unexpected, a shape or dtype is wrong, or the output
            projection differs from the embedding although the configuration ties them.
    """
    present = set(source.names())
    expected = {*naming.carried, *naming.buffers, naming.head}
    described, fix = "config.json", "Use the config.json that belongs to these weights."
    if source.path.suffix == ".gguf":
        described, fix = "the file's metadata", "Use another GGUF file."
    for tensor in naming.tensors(config):
        # The first fault ends the loop, so that a wrong number of layers costs no time.
        if tensor.name not in present:
            raise UserError(
                f"{source.path}: tensor {tensor.name} of shape {list(tensor.shape)} is missing. "
                f"{fix}"
            )
        where, shape = source.where(tensor.name), source.shape(tensor.name)
        if shape != tensor.shape:
            raise UserError(
                f"{where}: tensor {tensor.name} has shape {list(shape)}, but {described} requires "
                f"{list(tensor.shape)}. {fix}"
            )
        if (dtype := source.dtype(tensor.name)) not in DTYPES.values():
            raise UserError(
                f"{where}: tensor {tensor.name} has dtype {dtype}, which is not supported. "
                f"Convert it to {' or '.join(DTYPES.values())}."
            )
        expected.add(tensor.name)
    for name in sorted(present - expected):
        raise UserError(
            f"{source.where(name)}: tensor {name!r} {list(source.shape(name))} is not part of the "
            f"model that {described} describes. {fix}"
        )
    if naming.head is not None:
        _check_tied_head(source, naming, config)


def _check_tied_head(source: TensorSource, naming: Naming, config: DecoderConfig) -> None:
    embed, head = naming.find("embed")[0].pattern, naming.head
    same = source.shape(head) == source.shape(embed)
    for start in range(0, config.vocab_size, _COMPARED_ROWS):
        index = (slice(start, min(start + _COMPARED_ROWS, config.vocab_size)), slice(None))
        if not (
            same := same and np.array_equal(source.read(head, index), source.read(embed, index))
        ):
            break
    if not same:
        raise UserError(
            f"{source.where(head)}: tensor {head} differs from {embed}, but config.json ties them. "
            "Set tie_word_embeddings to false in config.json, or remove the tensor."
        )


def load_params(
    source: TensorSource,
    naming: Naming,
    config: DecoderConfig,
    layout: Layout,
    dtype: jnp.dtype = jnp.float32,
) -> Decoder:
    """Reads the parameters of a decoder from a checkpoint directly into sharded arrays.

    Args:
        source: checkpoint.
        naming: mapping from the tensors of the checkpoint to the parameters.
        layout: mesh and sharding rules of the parameters.
        dtype: dtype of the parameters; a cast rounds to nearest.

    Raises:
        UserError: the checkpoint does not match `config`, see `check`.
    """
    check(source, naming, config)
    arrays = {}
    for name, parameter in parameters(config).items():
        sharding = layout.sharding(parameter.axes, parameter.shape)
        reader = _Reader(source, naming, config, name, np.dtype(dtype))
        arrays[name] = jax.make_array_from_callback(parameter.shape, sharding, reader)
    return Decoder(arrays)


class _Reader:
    """Reader of one parameter, which maps the index of a device's block to the values.

    Each block is read once, even if several devices need it.
    """

    def __init__(
        self,
        source: TensorSource,
        naming: Naming,
        config: DecoderConfig,
        name: str,
        dtype: np.dtype,
    ) -> None:
        self.source = source
        self.entry, self.part = naming.find(name)
        self.ours = self.entry.parts[self.part][1]
        self.sizes = axis_sizes(self.entry, self.part, config)
        joined = self.entry.joined is not None
        self.begin = part_begin(self.entry, self.part, config) if joined else 0
        self.shape = parameters(config)[name].shape
        self.dtype = dtype
        self.blocks: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def __call__(self, index: tuple[slice, ...]) -> np.ndarray:
        bounds = tuple(s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True))
        if bounds not in self.blocks:
            self.blocks[bounds] = self._block(bounds)
        return self.blocks[bounds]

    def _block(self, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        if not self.entry.stacked:
            return self._tensor(self.entry.pattern, bounds).astype(self.dtype, order="C")
        block = np.empty([stop - start for start, stop in bounds], self.dtype)
        for row, layer in enumerate(range(*bounds[0])):
            block[row] = self._tensor(self.entry.pattern.format(i=layer), bounds[1:])
        return block

    def _tensor(self, name: str, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        whole = {axis: (0, size) for axis, size in self.sizes.items()}
        bound = whole | dict(zip(self.ours, bounds, strict=True))
        index = []
        for dimension, (outer, *inner) in enumerate(self.entry.theirs):
            # A slice of a flattened dimension is one range only if the inner axes are complete.
            assert all(bound[axis] == whole[axis] for axis in inner)
            stride = math.prod(self.sizes[axis] for axis in inner)
            begin = self.begin if dimension == self.entry.joined else 0
            index.append(slice(*(begin + edge * stride for edge in bound[outer])))
        letters = "".join(self.entry.theirs)
        block = self.source.read(name, tuple(index))
        block = block.reshape([bound[axis][1] - bound[axis][0] for axis in letters])
        if PART in letters:
            block = np.moveaxis(block, letters.index(PART), 0)[self.part]
            letters = letters.replace(PART, "")
        return block.transpose([letters.index(axis) for axis in self.ours])


def to_hf(
    model: Decoder, naming: Naming, config: DecoderConfig
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yields the tensors of a checkpoint as host arrays, one at a time, in the dtype of `model`.

    The function is the inverse of `load_params`. All processes of a multi-host job must iterate to
    the end, because they gather sharded tensors together.
    """
    arrays = model.arrays()
    for tensor in naming.tensors(config):
        entry = tensor.entry
        parts = []
        for name, ours in entry.parts:
            array = arrays[name] if tensor.layer is None else arrays[name][tensor.layer]
            parts.append((host_array(array), ours))
        whole = joined(parts, entry.theirs, entry.joined)
        yield tensor, np.ascontiguousarray(whole.reshape(tensor.shape))


def joined(
    parts: list[tuple[np.ndarray, str]], theirs: tuple[str, ...], along: int | None
) -> np.ndarray:
    """Joins parameters to one array with the axis order of a tensor in the checkpoint.

    Args:
        parts: pairs of an array and the letters of its axes.
        theirs: letters of the axes in each dimension of the tensor, see `Entry`.
        along: dimension along which the arrays are concatenated; None = the arrays alternate, or
            there is only one.

    Returns:
        The joined array. Axes that share a dimension of the tensor may still be separate.
    """
    letters = "".join(theirs).replace(PART, "")
    arrays = [array.transpose([ours.index(axis) for axis in letters]) for array, ours in parts]
    if along is not None:
        return np.concatenate([_flatten(array, theirs) for array in arrays], axis=along)
    return np.stack(arrays, axis="".join(theirs).index(PART)) if len(arrays) > 1 else arrays[0]


def _flatten(array: np.ndarray, groups: tuple[str, ...]) -> np.ndarray:
    sizes = iter(array.shape)
    return array.reshape([math.prod(next(sizes) for _ in group) for group in groups])
