"""GGUF files (llama.cpp): a bounds-checked header, and their tensors under Hugging Face names.

The header is parsed here and not with `gguf.GGUFReader`, which trusts every length in the file and
makes one array a token; block formats are decoded by `gguf.quants`. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import dataclasses
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from pmc_jax.errors import UserError

_SCALARS = MappingProxyType(
    {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?"}
    | {10: "<u8", 11: "<i8", 12: "<f8"}
)
_STRING, _ARRAY = 8, 9
_MAX_ITEMS = 1 << 24  # entries of one metadata array; the largest vocabularies have 2**18
_MAX_DIMS = 4
_DECODED = frozenset(
    getattr(GGMLQuantizationType, name)
    for name in (
        *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
        *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    )
)
ROPE_FACTORS = "rope_freqs.weight"
_NAMES = MappingProxyType(
    {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
)
_LAYER_NAMES = MappingProxyType(
    {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
_GEMMA_NORMS = MappingProxyType(
    {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: shape in Hugging Face order [out, in], bytes from the file's start."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    num_bytes: int


class _Cursor:
    """Reads little-endian values; a length that the file cannot hold is a `UserError`."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path = path
        self.view = memoryview(data)
        self.offset = 0

    def fault(self, what: str) -> UserError:
        return UserError(f"{self.path}: no readable GGUF file ({what}); fetch it again")

    def need(self, num_bytes: int) -> int:
        start = self.offset
        if num_bytes > len(self.view) - start:
            raise self.fault(f"truncated: byte {start} promises {num_bytes} more")
        self.offset += num_bytes
        return start

    def count(self, min_bytes: int) -> int:
        """A number of items of at least `min_bytes` each."""
        count = self.scalar(10)
        if count * min_bytes > len(self.view) - self.offset:
            raise self.fault(f"truncated: byte {self.offset} promises {count} entries")
        return count

    def scalar(self, kind: int) -> Any:
        code = _SCALARS[kind]
        start = self.need(int(code[-1]) if kind != 7 else 1)
        return np.frombuffer(self.view, code, 1, start)[0].item()

    def string(self) -> str:
        length = struct.unpack_from("<Q", self.view, self.need(8))[0]
        start = self.need(length)
        try:
            return str(self.view[start : start + length], "utf-8")
        except UnicodeDecodeError:
            raise self.fault(f"byte {start} starts a string that is no UTF-8") from None

    def value(self) -> Any:
        """A typed metadata value; arrays of numbers stay views of the file."""
        kind = self.scalar(4)
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            value = self.scalar(kind)
            # The shortest decimal of a float32, as it was written before conversion.
            return float(str(np.float32(value))) if kind == 6 else value
        if kind != _ARRAY:
            raise self.fault(f"unknown metadata type {kind}")
        kind = self.scalar(4)
        if kind not in _SCALARS and kind != _STRING:
            raise self.fault(f"arrays of metadata type {kind} are not supported")
        dtype = np.dtype(_SCALARS.get(kind, "<u8"))
        if (count := self.count(dtype.itemsize)) > _MAX_ITEMS:
            raise self.fault(f"an array of {count} entries")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        return np.frombuffer(self.view, dtype, count, self.need(count * dtype.itemsize))


class GGUFFile:
    """Header of a GGUF file, and a `TensorSource` over its weights.

    Attributes:
        path: the file.
        architecture: llama.cpp's name of the model family.
        metadata: key -> number, bool, str, list of str or array of numbers.
        infos: GGUF tensor name -> place.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the header; weights stay on disk.

        Raises:
            UserError: not GGUF, truncated, a lying header, one part of a split model, or a block
                format that is not supported. Time and memory are bounded by the file's size.
        """
        self.path = Path(path)
        try:
            self._data = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read ({error})") from None
        cursor = _Cursor(self.path, self._data)
        if bytes(cursor.view[:4]) != b"GGUF":
            raise cursor.fault("it does not start with GGUF")
        cursor.need(4)
        if (version := cursor.scalar(4)) not in (2, 3):
            raise cursor.fault(f"version {version}; supported: 2, 3, little-endian")
        num_tensors, num_keys = cursor.count(24), cursor.count(13)
        self.metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            if (key := cursor.string()) in self.metadata:
                raise cursor.fault(f"metadata key {key!r} twice")
            self.metadata[key] = cursor.value()
        if self.get("split.count", int, 1) > 1:
            raise UserError(f"{self.path}: one part of a split model; join them with gguf-split")
        self.infos = self._tensor_table(cursor, num_tensors)
        self.architecture = self.get("general.architecture", str, "")
        if not re.fullmatch(r"[\w.-]+", self.architecture):
            raise cursor.fault(f"general.architecture {self.architecture!r}")
        # llama.cpp stores what a norm multiplies with, Gemma's checkpoints one less.
        self._is_gemma = self.architecture.startswith("gemma")
        names = dict(_LAYER_NAMES) | (dict(_GEMMA_NORMS) if self._is_gemma else {})
        self._source_names = {
            _hf_name(name, names): name for name in self.infos if name != ROPE_FACTORS
        }
        heads = self.get(f"{self.architecture}.attention.head_count", int, 1)
        kv_heads = self.get(f"{self.architecture}.attention.head_count_kv", int, heads)
        self._heads = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Metadata of a known type.

        Raises:
            UserError: the value is of another type.
        """
        if (value := self.metadata.get(key)) is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(
                f"{self.path}: {key} must be {kind.__name__}, got {type(value).__name__}"
            )
        return value

    def _tensor_table(self, cursor: _Cursor, num_tensors: int) -> dict[str, TensorInfo]:
        pending = {}
        for _ in range(num_tensors):
            if (name := cursor.string()) in pending:
                raise cursor.fault(f"tensor {name!r} twice")
            if not 1 <= (num_dims := cursor.scalar(4)) <= _MAX_DIMS:
                raise cursor.fault(f"tensor {name!r} has {num_dims} dimensions")
            dims = [cursor.scalar(10) for _ in range(num_dims)]
            pending[name] = (dims, cursor.scalar(4), cursor.scalar(10))
        if (alignment := self.get("general.alignment", int, 32)) < 1:
            raise cursor.fault(f"alignment {alignment}")
        start = -(-cursor.offset // alignment) * alignment
        infos = {}
        for name, (dims, code, offset) in pending.items():
            if code not in _DECODED:
                known = code in GGMLQuantizationType.__members__.values()
                label = GGMLQuantizationType(code).name if known else code
                raise UserError(
                    f"{self.path}: tensor {name!r} is in format {label}, which is not supported; "
                    f"supported: {', '.join(sorted(kind.name for kind in _DECODED))}"
                )
            kind = GGMLQuantizationType(code)
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if min(dims) < 1 or dims[0] % block:
                raise cursor.fault(f"tensor {name!r} has dimensions {dims} in format {kind.name}")
            num_bytes = math.prod(dims) // block * block_bytes
            if start + offset + num_bytes > len(self._data):
                raise cursor.fault(f"truncated: it ends before the end of tensor {name!r}")
            infos[name] = TensorInfo(tuple(reversed(dims)), kind, start + offset, num_bytes)
        return infos

    def names(self) -> tuple[str, ...]:
        return tuple(self._source_names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.infos[self._source_names[name]].shape

    def dtype(self, name: str) -> str:
        """`float32`, what every block format is decoded to."""
        return "float32"

    def where(self, name: str) -> str:
        return str(self.path)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """f32 block; only the rows that `index` selects are decoded."""
        info = self.infos[self._source_names[name]]
        raw = self._bytes(info)
        rows, *columns = index
        if not columns:
            values = dequantize(raw, info.kind)
            if self._is_gemma and name.endswith("norm.weight"):
                values = values - 1
            return self._unpermuted(name, values, rows, values.size)
        raw = raw.reshape(info.shape[0], -1)
        block = dequantize(self._unpermuted(name, raw, rows, info.shape[0]), info.kind)
        return block[:, *columns]

    def rope_divisors(self) -> np.ndarray:
        """f32[head_dim / 2]: what each rotary frequency is divided by, in `rope_freqs.weight`."""
        info = self.infos[ROPE_FACTORS]
        return dequantize(self._bytes(info), info.kind).reshape(-1)

    def _bytes(self, info: TensorInfo) -> np.ndarray:
        return self._data[info.offset : info.offset + info.num_bytes]

    def _unpermuted(self, name: str, x: np.ndarray, rows: slice, size: int) -> np.ndarray:
        """Rows in Hugging Face order: llama.cpp stores those of q and k with pairs adjacent.

        Row (head, half, i) of the checkpoint is row (head, i, half) of the file.
        """
        module = ".".join(name.split(".")[3:5])
        if self.architecture != "llama" or module not in self._heads:
            return x[rows]
        head_dim = size // self._heads[module]
        row = np.arange(*rows.indices(size))
        head, inner = np.divmod(row, head_dim)
        half, i = np.divmod(inner, head_dim // 2)
        return x[head * head_dim + 2 * i + half]


def _hf_name(name: str, layer_names: Mapping[str, str]) -> str:
    """The Hugging Face name; a name without one is kept and refused where weights are checked."""
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, module, kind = match.groups()
        if module in layer_names:
            return f"model.layers.{layer}.{layer_names[module]}.{kind}"
    stem, _, kind = name.rpartition(".")
    return f"{_NAMES[stem]}.{kind}" if stem in _NAMES else name
