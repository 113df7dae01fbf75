"""Reader of the `*.safetensors` files in a local or remote folder.

The headers are read when the folder is opened. Weights are read on demand.
"""

import functools
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from pmc_jax.errors import UserError, reason
from pmc_jax.models.remote import RemoteSafetensors, is_address, read_text, remote_folder

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class SafetensorsFolder:
    """Weights in a folder, read from `model.safetensors` or from the files that the index lists."""

    def __init__(self, folder: str | Path) -> None:
        """Opens all files and reads only their headers.

        Raises:
            UserError: the folder cannot be reached or has no weights, a file is damaged, or the
                index does not match the files.
        """
        self.path = remote_folder(str(folder)) if is_address(folder) else Path(folder)
        local = functools.partial(safe_open, framework="numpy")
        opened = RemoteSafetensors if is_address(folder) else local
        if (self.path / SINGLE_FILE).is_file():
            listed = {SINGLE_FILE: None}
        elif (self.path / INDEX_FILE).is_file():
            listed = _read_index(self.path / INDEX_FILE)
        else:
            raise UserError(
                f"{self.path}: the folder holds neither {SINGLE_FILE} nor {INDEX_FILE}. "
                "Choose a complete model folder."
            )
        self._files: dict[str, Path] = {}
        self._slices = {}
        for file, names in listed.items():
            path = self.path / file
            try:
                handle = opened(path)
            except UserError:  # A remote file cannot be reached.
                raise
            except (SafetensorError, OSError, ValueError) as error:
                raise UserError(
                    f"{path}: the file cannot be read as safetensors ({reason(error)}). Check its "
                    "permissions, or download it again."
                ) from None
            keys = set(handle.keys())
            if names is not None and (wrong := sorted(keys ^ names)):
                verb, listed_as = (
                    ("lacks", "lists") if wrong[0] in names else ("has", "does not list")
                )
                raise UserError(
                    f"{path}: the file {verb} tensor {wrong[0]!r}, which {INDEX_FILE} {listed_as} "
                    "for this file. Download the model again."
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
    """Reads the index of a folder. Returns a dict from file name to the names of its tensors."""
    try:
        weight_map = json.loads(read_text(path))["weight_map"]
        pairs = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path}: the file cannot be read as a JSON object with a weight_map. "
            "Download the model again."
        ) from None
    files: dict[str, set[str]] = {}
    for name, file in pairs:
        if (
            not isinstance(file, str)
            or Path(file).name != file
            or not file.endswith(".safetensors")
        ):
            raise UserError(
                f"{path}: tensor {name!r} is in {file!r}, which is not a *.safetensors file of "
                "this folder. Download the model again."
            )
        if not (path.parent / file).is_file():
            raise UserError(
                f"{path}: the index lists the file {file!r}, which is missing. Download the model "
                "again."
            )
        files.setdefault(file, set()).add(name)
    if not files:
        raise UserError(f"{path}: the weight_map is empty. Download the model again.")
    return files
