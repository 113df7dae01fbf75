"""Access to remote model folders such as gs://bucket/model.

Of a file with weights, only the header and the rows that are needed are transferred. The module
uses `etils.epath`, which uses fsspec (gcsfs for gs://, s3fs for s3://) or, if TensorFlow is
installed, TensorFlow's file system.
"""

import contextlib
import errno
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes  # noqa: F401 (the import adds bfloat16 and the float8 types to numpy)
import numpy as np
from etils import epath

from pmc_jax.config import reading
from pmc_jax.errors import UserError, reason

# This suffix marks folders that are incomplete or already replaced.
PARTIAL = ".partial"
# This file marks a model folder that pmc has made and may replace.
MARK = "target.json"

_SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}  # Each scheme needs one package.
_HEADER_BYTES = 100_000_000  # The safetensors format has this limit.
# These patterns match the configuration and tokenizer files of a model folder.
TEXT_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{f"I{8 * n}": f"int{8 * n}" for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": f"uint{8 * n}" for n in (1, 2, 4, 8)},
    **{"BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


def is_address(name: str | Path) -> bool:
    """Returns whether a path is a remote address, such as gs://bucket/model."""
    return "://" in str(name)


def remote_folder(address: str) -> epath.Path:
    """Returns the folder at a remote address.

    Raises:
        UserError: the folder does not exist or cannot be reached, or its scheme is not supported.
    """
    scheme = address.partition("://")[0]
    if scheme not in _SCHEMES:
        supported = " or ".join(f"{name}://" for name in _SCHEMES)
        raise UserError(f"{address}: the scheme {scheme!r} is not supported. Use {supported}.")
    with _reached(address):
        if (folder := epath.Path(address)).is_dir():
            return folder
    raise UserError(f"{address}: the folder does not exist. Use the address of a model folder.")


@contextlib.contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except ImportError:
        package = _SCHEMES[address.partition("://")[0]]
        raise UserError(
            f"{address}: the package {package} is not installed. Run: pip install {package}"
        ) from None
    # Several libraries raise their own errors for logins, networks and missing objects.
    except Exception as error:
        raise UserError(
            f"{address}: the address cannot be read ({reason(error)}). Check the "
            "address and the login, or copy the folder to this machine."
        ) from None


@contextlib.contextmanager
def local_texts(folder: Path) -> Iterator[Path]:
    """Provides a local folder with the configuration and tokenizer files of a model folder.

    It is `folder` itself or, if `folder` is remote, a temporary folder with copies of these files.
    """
    if not is_address(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as copy:
        with _reached(str(folder)):
            for pattern in TEXT_FILES:
                for path in folder.glob(pattern):
                    with path.open("rb") as file, (Path(copy) / path.name).open("wb") as out:
                        shutil.copyfileobj(file, out)
        yield Path(copy)


def read_text(path: Path) -> str:
    """Reads the text of a UTF-8 file, which must be a remote file or a regular local file.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    if not is_address(path):
        return reading.read_text(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise
    except Exception as error:  # Several libraries raise their own errors.
        raise OSError(errno.EIO, reason(error), str(path)) from None


def listing(address: str) -> list[tuple[str, int, int]]:
    """Returns the name, the size and the modification time of every file in a remote folder.

    The sizes are in bytes and the times in seconds. The list identifies a version of the folder.

    Raises:
        UserError: the folder does not exist or cannot be reached, or its scheme is not supported.
    """
    folder = remote_folder(address)
    with _reached(address):
        stats = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return [(name, stat.length, stat.mtime) for name, stat in sorted(stats.items())]


class RemoteSafetensors:
    """Remote `*.safetensors` file with `keys` and `get_slice`, as in `safetensors.safe_open`.

    Raises:
        UserError: the file cannot be reached.
        ValueError: the header is damaged, or the file is shorter than its header says.
    """

    def __init__(self, path: epath.Path) -> None:
        with _reached(str(path)), path.open("rb") as file:
            length, size = path.stat().length, int.from_bytes(file.read(8), "little")
            text = file.read(size) if 8 + size <= min(length, _HEADER_BYTES) else b""
        try:
            header = {k: v for k, v in json.loads(text).items() if k != "__metadata__"}
            self._slices = {n: _Slice(path, 8 + size, length, **x) for n, x in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError("the header is damaged, or the file is truncated") from None

    def keys(self) -> list[str]:
        return list(self._slices)

    def get_slice(self, name: str) -> "_Slice":
        return self._slices[name]


class _Slice:
    """Tensor in a remote file. An index transfers only the selected range of dimension 0."""

    def __init__(
        self,
        path: epath.Path,
        begin: int,
        length: int,
        *,
        dtype: str,
        shape: list[int],
        data_offsets: list[int],
    ) -> None:
        if any(type(size) is not int or size < 0 for size in (*shape, *data_offsets)):
            raise ValueError
        first, last = data_offsets
        self._dtype, self._code = np.dtype(_DTYPES[dtype]), dtype
        if last - first != math.prod(shape) * self._dtype.itemsize or begin + last > length:
            raise ValueError
        self._path, self._begin, self._shape = path, begin + first, shape

    def get_shape(self) -> list[int]:
        return self._shape

    def get_dtype(self) -> str:
        return self._code

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        rows, inner = (index[0], index[1:]) if self._shape else (slice(0, 1), ())
        start, stop, _ = rows.indices(self._shape[0] if self._shape else 1)
        row_bytes = math.prod(self._shape[1:]) * self._dtype.itemsize
        with _reached(str(self._path)), self._path.open("rb") as file:
            file.seek(self._begin + start * row_bytes)
            data = file.read((stop - start) * row_bytes)
        block = np.frombuffer(data, self._dtype).reshape(stop - start, *self._shape[1:])
        return block[(slice(None), *inner)] if self._shape else block.reshape(())
