"""Hugging Face tensors to parameters and back: one table, used in both directions.

Weights go from the file straight into sharded arrays: every device asks for its own slice of a
parameter and only those bytes are read. This module knows no tokenizer and no configuration file.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from safetensors import SafetensorError, safe_open

from pmc_jax.errors import UserError
from pmc_jax.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, parameters

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DTYPES = MappingProxyType({"F32": "float32", "F16": "float16", "BF16": "bfloat16"})
_COMPARED_ROWS = 4096


class TensorSource(Protocol):
    """Named tensors in a file or folder, under Hugging Face names and in Hugging Face layout."""

    path: Path

    def names(self) -> tuple[str, ...]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> str:
        """`float32`, `float16` or `bfloat16`."""

    def where(self, name: str) -> str:
        """Path of the file that holds the tensor."""

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """The block that `index` (step 1, one slice for each dimension) selects, and no more."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a parameter lies in a Hugging Face checkpoint.

    Attributes:
        pattern: tensor name; `{i}` is the layer.
        ours: one letter for each axis of the parameter (of one layer); letters as in `decoder`.
        theirs: the tensor's dimensions, each the letters that it flattens, outermost first.
    """

    pattern: str
    ours: str
    theirs: tuple[str, ...]


def _layer_table() -> dict[str, Entry]:
    table = {
        "attention_norm": Entry("input_layernorm.weight", "d", ("d",)),
        "mlp_norm": Entry("post_attention_layernorm.weight", "d", ("d",)),
        "o": Entry("self_attn.o_proj.weight", "nhd", ("d", "nh")),
        "o_bias": Entry("self_attn.o_proj.bias", "d", ("d",)),
        "down": Entry("mlp.down_proj.weight", "fd", ("d", "f")),
        "down_bias": Entry("mlp.down_proj.bias", "d", ("d",)),
    }
    for name in "qkv":
        table[name] = Entry(f"self_attn.{name}_proj.weight", "dnh", ("nh", "d"))
        table[f"{name}_bias"] = Entry(f"self_attn.{name}_proj.bias", "nh", ("nh",))
    for name in ("gate", "up"):
        table[name] = Entry(f"mlp.{name}_proj.weight", "df", ("f", "d"))
        table[f"{name}_bias"] = Entry(f"mlp.{name}_proj.bias", "f", ("f",))
    return {
        f"layers.{name}": dataclasses.replace(entry, pattern="model.layers.{i}." + entry.pattern)
        for name, entry in table.items()
    }


# Weights of a projection are [out, in] in the checkpoint and [in, out] here.
TENSORS: Mapping[str, Entry] = MappingProxyType(
    {
        "embed": Entry("model.embed_tokens.weight", "vd", ("v", "d")),
        "norm": Entry("model.norm.weight", "d", ("d",)),
        "head": Entry("lm_head.weight", "vd", ("v", "d")),
        **_layer_table(),
    }
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint: `parameter[layer]`, or all of it where `layer` is None."""

    name: str
    parameter: str
    layer: int | None
    shape: tuple[int, ...]


def tensors(config: DecoderConfig) -> Iterator[Tensor]:
    """Every tensor that a checkpoint of this shape holds, lazily."""
    for name, parameter in parameters(config).items():
        entry = TENSORS[name]
        stacked = name.startswith("layers.")
        sizes = dict(zip(entry.ours, parameter.shape[stacked:], strict=True))
        shape = tuple(math.prod(sizes[axis] for axis in group) for group in entry.theirs)
        for i in range(config.num_layers) if stacked else (None,):
            yield Tensor(entry.pattern.format(i=i), name, i, shape)


def check(source: TensorSource, config: DecoderConfig) -> None:
    """Compares names, shapes and dtypes with the configuration; reads no weights.

    Raises:
        UserError: a missing or unexpected tensor, a shape or a dtype that does not fit, or a
            separate output projection in a model whose configuration ties it.
    """
    present = set(source.names())
    expected = set()
    for tensor in tensors(config):
        # The first fault ends the loop: a false layer count must not cost time.
        if tensor.name not in present:
            raise UserError(
                f"{source.path}: tensor {tensor.name} {list(tensor.shape)} is missing; "
                "config.json and the weights do not belong together"
            )
        where, shape = source.where(tensor.name), source.shape(tensor.name)
        if shape != tensor.shape:
            raise UserError(
                f"{where}: tensor {tensor.name} has shape {list(shape)}, "
                f"config.json asks for {list(tensor.shape)}"
            )
        if (dtype := source.dtype(tensor.name)) not in DTYPES.values():
            raise UserError(
                f"{where}: tensor {tensor.name} has dtype {dtype}; "
                f"supported: {', '.join(DTYPES.values())}"
            )
        expected.add(tensor.name)
    head = TENSORS["head"].pattern
    tied_head = config.tie_embeddings and head in present
    for name in sorted(present - expected):
        if name.endswith("rotary_emb.inv_freq") or (name == head and tied_head):
            continue
        raise UserError(
            f"{source.where(name)}: tensor {name!r} {list(source.shape(name))} has no place in the "
            "model that config.json describes"
        )
    if tied_head:
        _check_tied_head(source, config)


def _check_tied_head(source: TensorSource, config: DecoderConfig) -> None:
    embed, head = TENSORS["embed"].pattern, TENSORS["head"].pattern
    same = source.shape(head) == source.shape(embed)
    for start in range(0, config.vocab_size, _COMPARED_ROWS):
        index = (slice(start, min(start + _COMPARED_ROWS, config.vocab_size)), slice(None))
        if not (
            same := same and np.array_equal(source.read(head, index), source.read(embed, index))
        ):
            break
    if not same:
        raise UserError(
            f"{source.where(head)}: {head} differs from {embed} although config.json says "
            "tie_word_embeddings; set it to false there or remove the tensor"
        )


def load_params(
    source: TensorSource, config: DecoderConfig, layout: Layout, dtype: jnp.dtype = jnp.float32
) -> Decoder:
    """Reads a checkpoint into arrays that are sharded from the start.

    Args:
        dtype: of the parameters; a cast rounds to nearest.

    Raises:
        UserError: the checkpoint is not the one that `config` describes (see `check`).
    """
    check(source, config)
    arrays = {}
    for name, parameter in parameters(config).items():
        sharding = layout.sharding(parameter.axes, parameter.shape)
        reader = _Reader(source, name, parameter.shape, np.dtype(dtype))
        arrays[name] = jax.make_array_from_callback(parameter.shape, sharding, reader)
    return Decoder(arrays)


class _Reader:
    """Host blocks of one parameter; devices that hold the same block share one read."""

    def __init__(
        self, source: TensorSource, name: str, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self.source = source
        self.entry = TENSORS[name]
        self.stacked = name.startswith("layers.")
        self.shape = shape
        self.dtype = dtype
        self.blocks: dict[tuple[tuple[int, int], ...], np.ndarray] = {}

    def __call__(self, index: tuple[slice, ...]) -> np.ndarray:
        bounds = tuple(s.indices(n)[:2] for s, n in zip(index, self.shape, strict=True))
        if bounds not in self.blocks:
            self.blocks[bounds] = self._block(bounds)
        return self.blocks[bounds]

    def _block(self, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        if not self.stacked:
            return self._tensor(self.entry.pattern, bounds).astype(self.dtype, order="C")
        block = np.empty([stop - start for start, stop in bounds], self.dtype)
        for row, layer in enumerate(range(*bounds[0])):
            block[row] = self._tensor(self.entry.pattern.format(i=layer), bounds[1:])
        return block

    def _tensor(self, name: str, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        ours, theirs = self.entry.ours, self.entry.theirs
        bound = dict(zip(ours, bounds, strict=True))
        size = dict(zip(ours, self.shape[self.stacked :], strict=True))
        index = []
        for outer, *inner in theirs:
            # A slice of a flattened dimension is one range only while the inner axes are whole.
            assert all(bound[axis] == (0, size[axis]) for axis in inner)
            stride = math.prod(size[axis] for axis in inner)
            index.append(slice(bound[outer][0] * stride, bound[outer][1] * stride))
        letters = "".join(theirs)
        block = self.source.read(name, tuple(index))
        block = block.reshape([bound[axis][1] - bound[axis][0] for axis in letters])
        return block.transpose([letters.index(axis) for axis in ours])


def to_hf(model: Decoder, config: DecoderConfig) -> Iterator[tuple[Tensor, np.ndarray]]:
    """The inverse of `load_params`: one tensor at a time on the host, in the dtype of `model`.

    With several processes each must run it to the end, for a sharded tensor is gathered by all.
    """
    arrays = model.arrays()
    for tensor in tensors(config):
        array = arrays[tensor.parameter]
        if tensor.layer is not None:
            array = array[tensor.layer]
        if array.is_fully_addressable:
            host = np.asarray(array)
        else:
            host = np.asarray(multihost_utils.process_allgather(array, tiled=True))
        entry = TENSORS[tensor.parameter]
        order = [entry.ours.index(axis) for axis in "".join(entry.theirs)]
        yield tensor, np.ascontiguousarray(host.transpose(order).reshape(tensor.shape))


class SafetensorsFolder:
    """The `*.safetensors` of a folder: `model.safetensors`, or the files that its index lists."""

    def __init__(self, folder: str | Path) -> None:
        """Opens every file; reads headers only.

        Raises:
            UserError: no weights, a damaged file, or an index that does not match its files.
        """
        self.path = Path(folder)
        if (self.path / SINGLE_FILE).is_file():
            listed = {SINGLE_FILE: None}
        elif (self.path / INDEX_FILE).is_file():
            listed = _read_index(self.path / INDEX_FILE)
        else:
            raise UserError(f"{self.path}: neither {SINGLE_FILE} nor {INDEX_FILE} is there")
        self._files: dict[str, Path] = {}
        self._slices = {}
        for file, names in listed.items():
            path = self.path / file
            try:
                handle = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{path}: no readable safetensors file ({error}); fetch it again"
                ) from None
            keys = set(handle.keys())
            if names is not None and (wrong := sorted(keys ^ names)):
                state = "lacks" if wrong[0] in names else "holds"
                raise UserError(
                    f"{path}: the file {state} tensor {wrong[0]!r}, {INDEX_FILE} says otherwise"
                )
            for name in keys:
                self._files[name] = path
                self._slices[name] = handle.get_slice(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slices[name].get_shape())

    def dtype(self, name: str) -> str:
        code = self._slices[name].get_dtype()
        return DTYPES.get(code, code)

    def where(self, name: str) -> str:
        return str(self._files[name])

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        return self._slices[name][index]


def _read_index(path: Path) -> dict[str, set[str]]:
    """File -> names of its tensors."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: no readable index (a JSON object with weight_map)") from None
    files: dict[str, set[str]] = {}
    for name, file in pairs:
        if (
            not isinstance(file, str)
            or Path(file).name != file
            or not file.endswith(".safetensors")
        ):
            raise UserError(f"{path}: {name!r}: {file!r} is no *.safetensors file of this folder")
        if not (path.parent / file).is_file():
            raise UserError(f"{path}: {file!r} is listed but not there; fetch the model again")
        files.setdefault(file, set()).add(name)
    if not files:
        raise UserError(f"{path}: weight_map is empty")
    return files
