"""Reader of metadata and tensors from GGUF files (llama.cpp), by Hugging Face tensor names.

The package `gguf` reads the header and decodes the block formats. This module adds bounds checks.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType, GGUFValueType
from gguf.gguf_reader import GGUFReader, ReaderField, ReaderTensor
from gguf.quants import dequantize

from pmc_jax.errors import UserError, reason

# Metadata arrays have at most this many entries. The largest vocabularies have about 2**18 tokens.
_MAX_ITEMS = 1 << 21
_MAX_DIMS = 4
_DECODED = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
ROPE_FACTORS = "rope_freqs.weight"
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
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
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Shape of a tensor in Hugging Face order [out, in], its block format and its location.

    Attributes:
        kind: block format, which says how the values are encoded.
        offset: position of the first byte in the file.
        num_bytes: number of bytes in the file.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    num_bytes: int


class _Reader(GGUFReader):
    """GGUF reader that checks lengths against the file and reads a metadata array as one value.

    `GGUFReader` trusts every length, reads empty values beyond the end of the file, and creates one
    numpy array for each entry of a metadata array.
    """

    def _get(self, offset, dtype, count=1, override_order=None):
        if self.byte_order != "I":
            raise ValueError("the file is big-endian")
        if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
            raise ValueError(
                f"the file is too short for {count} x {dtype.__name__} at byte {offset}"
            )
        return np.frombuffer(self.data, dtype, int(count), int(offset))

    def _get_field_parts(self, orig_offs, raw_type):
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        (kind,), (count,) = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        dtype, end = self.gguf_scalar_to_np.get(kind), orig_offs + 12
        if count > _MAX_ITEMS or (dtype is None and kind != GGUFValueType.STRING):
            raise ValueError(
                f"a metadata array has {count} entries of type {kind}, but only up to "
                f"{_MAX_ITEMS} numbers or texts are supported"
            )
        if dtype is not None:
            values = self._get(end, dtype, count)
            end += values.nbytes
        else:
            values = []
            for _ in range(count):
                _, text = self._get_str(end)
                values.append(str(text, "utf-8"))
                end += 8 + len(text)
        return end - orig_offs, [values], [0], [GGUFValueType.ARRAY]


class GGUFFile:
    """GGUF file, which is a `TensorSource` and also has metadata.

    Attributes:
        path: path of the file.
        architecture: llama.cpp's name of the model family.
        metadata: dict from key to number, bool, str, list of str or array of numbers.
        infos: dict from GGUF tensor name to shape, block format and location of the tensor.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads only the header of the file.

        The lengths in the header are checked against the size of the file, which limits time and
        memory even if the file is damaged.

        Raises:
            UserError: the file cannot be read, is not GGUF, is truncated, has a damaged header, is
                one part of a split model, or uses an unsupported block format.
        """
        self.path = Path(path)
        try:
            with np.errstate(over="raise"):
                reader = _Reader(self.path)
                self.metadata = {
                    key: _value(field)
                    for key, field in reader.fields.items()
                    if not key.startswith("GGUF.")
                }
        except OSError as error:
            raise UserError(
                f"{self.path}: the file cannot be read ({reason(error)}). Check its permissions."
            ) from None
        except (ValueError, KeyError, ArithmeticError, RecursionError) as error:
            raise self._fault(reason(error)) from None
        if self.get("split.count", int, 1) > 1:
            raise UserError(
                f"{self.path}: the file is one part of a split model. "
                "Join the parts with llama-gguf-split --merge, a tool of llama.cpp."
            )
        self._data = np.asarray(reader.data)
        self.infos = {tensor.name: self._info(tensor) for tensor in reader.tensors}
        self.architecture = self.get("general.architecture", str, "")
        if not re.fullmatch(r"[\w.-]+", self.architecture):
            raise self._fault("general.architecture is missing or is not a name")
        # llama.cpp stores the factor of a norm, but Gemma's checkpoints store the factor minus 1.
        self._is_gemma = self.architecture.startswith("gemma")
        names = dict(_LAYER_NAMES) | (dict(_GEMMA_NORMS) if self._is_gemma else {})
        self._source_names = {
            _hf_name(name, names): name for name in self.infos if name != ROPE_FACTORS
        }
        heads = self.get(f"{self.architecture}.attention.head_count", int, 1)
        kv_heads = self.get(f"{self.architecture}.attention.head_count_kv", int, heads)
        self._heads = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}

    def _fault(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: the file cannot be read as GGUF ({what}). Download it again, or use "
            "another GGUF file."
        )

    def _info(self, tensor: ReaderTensor) -> TensorInfo:
        """Returns the description of a tensor after a check of its block format and dimensions.

        `GGUFReader` does not check them.

        Raises:
            UserError: the block format is not supported, or the dimensions are invalid.
        """
        name, kind, dims = tensor.name, tensor.tensor_type, tensor.shape.tolist()
        if kind.name not in _DECODED:
            raise UserError(
                f"{self.path}: tensor {name!r} has the unsupported block format {kind.name}. "
                f"Use a file with only these formats: {', '.join(_DECODED)}."
            )
        if not 1 <= len(dims) <= _MAX_DIMS or min(dims) < 1 or math.prod(dims) != tensor.n_elements:
            raise self._fault(
                f"tensor {name!r} has the invalid dimensions {dims}; expected 1 to {_MAX_DIMS} "
                f"positive numbers whose product is {tensor.n_elements}"
            )
        return TensorInfo(tuple(reversed(dims)), kind, tensor.data_offset, tensor.n_bytes)

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Returns a metadata value of type `kind`, or `default` if the key is absent.

        If `kind` is float, an int is converted.

        Raises:
            UserError: the value does not have the type `kind`.
        """
        if (value := self.metadata.get(key)) is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(
                f"{self.path}: {key} must have type {kind.__name__}, but it has type "
                f"{type(value).__name__}. Download the file again, or use another model."
            )
        return value

    def names(self) -> tuple[str, ...]:
        return tuple(self._source_names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.infos[self._source_names[name]].shape

    def dtype(self, name: str) -> str:
        """Returns `float32`, because all block formats are decoded to float32."""
        return "float32"

    def where(self, name: str) -> str:
        return str(self.path)

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Reads the part of a tensor that `index` selects, as float32 values.

        Of a matrix, only the rows of this part are decoded.
        """
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
        """Reads the divisors of the rotary frequencies, f32[head_dim / 2], from the file."""
        info = self.infos[ROPE_FACTORS]
        return dequantize(self._bytes(info), info.kind).reshape(-1)

    def _bytes(self, info: TensorInfo) -> np.ndarray:
        return self._data[info.offset : info.offset + info.num_bytes]

    def _unpermuted(self, name: str, x: np.ndarray, rows: slice, size: int) -> np.ndarray:
        """Returns the rows `rows` of a tensor `x`, which has `size` rows, in Hugging Face order.

        For Llama, llama.cpp interleaves the two halves of each head in the weights of queries and
        keys: row (head, half, i) of a checkpoint is row (head, i, half) of the file.
        """
        module = ".".join(name.split(".")[3:5])
        if self.architecture != "llama" or module not in self._heads:
            return x[rows]
        head_dim = size // self._heads[module]
        row = np.arange(*rows.indices(size))
        head, inner = np.divmod(row, head_dim)
        half, i = np.divmod(inner, head_dim // 2)
        return x[head * head_dim + 2 * i + half]


def _value(field: ReaderField) -> Any:
    if field.types == [GGUFValueType.ARRAY]:
        return field.parts[-1]
    if field.types == [GGUFValueType.FLOAT32]:
        # The shortest decimal is the value before the conversion to float32.
        return float(str(field.parts[-1][0]))
    return field.contents()


def _hf_name(name: str, layer_names: Mapping[str, str]) -> str:
    """Returns the Hugging Face name of a tensor in a GGUF file.

    Args:
        name: name of the tensor in the file. An unknown name is returned unchanged.
        layer_names: dict from llama.cpp's name of a module in a layer to the Hugging Face name.
    """
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        layer, module, kind = match.groups()
        if module in layer_names:
            return f"model.layers.{layer}.{layer_names[module]}.{kind}"
    stem, _, kind = name.rpartition(".")
    return f"{_NAMES[stem]}.{kind}" if stem in _NAMES else name
