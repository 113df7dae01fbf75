"""Export of a model as a Hugging Face folder. A failed export keeps an existing folder as it is."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pmc_jax.config.paths import output_path
from pmc_jax.distributed import multihost
from pmc_jax.errors import UserError
from pmc_jax.models.families import family_of
from pmc_jax.models.hf import to_hf
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.remote import MARK, PARTIAL
from pmc_jax.models.safetensors_folder import INDEX_FILE, SINGLE_FILE, SafetensorsFolder

SHARD_BYTES = 5_000_000_000
# These files hold weights or code, belong to weights, or mark a folder that pmc has made.
_NOT_COPIED = (
    *(".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".py"),
    *(".index.json", "adapter_config.json", MARK),
)
_DROPPED_KEYS = ("quantization_config", "auto_map", "_name_or_path", "torch_dtype")


def export_hf(
    lm: LanguageModel,
    folder: str | Path,
    *,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    replace: bool = False,
    marks: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights, configuration and tokenizer of a model in the format of `transformers`.

    All processes of a multi-host run must call this function. Only the first process writes, and
    its memory holds at most the weights of one file and one more tensor.

    Args:
        folder: folder to write; it must be absent or empty unless `replace` is set.
        dtype: dtype of the decoder's weights; None = dtype of each tensor in the source (float32
            for GGUF). Tensors outside the decoder, such as an image encoder, keep their dtype.
        shard_bytes: maximum bytes of weights in one file. A larger tensor has its own file.
        replace: whether to delete an existing folder once the new folder is complete.
        marks: additional JSON files to write, as a dict from file name to content.

    Raises:
        UserError: the folder is not empty and `replace` is not set, or it cannot be written.
    """
    with written_aside(folder, replace=replace) as aside:
        if aside is not None:
            _write_texts(lm, aside, dtype)
            for name, content in (marks or {}).items():
                write_hf_json(aside / name, content)
        _write_weights(lm, aside, dtype, shard_bytes)


@contextlib.contextmanager
def written_aside(folder: str | Path, *, replace: bool = False) -> Iterator[Path | None]:
    """Provides a temporary folder that is renamed to `folder` at the end, or deleted on an error.

    Args:
        folder: folder to write; it must be absent or empty unless `replace` is set.
        replace: whether to delete an existing folder once the new folder is complete.

    Yields:
        The temporary folder. It is None in all processes of a multi-host run except the first.

    Raises:
        UserError: the folder is not empty and `replace` is not set, or it cannot be written.
    """
    folder = output_path(folder, "folder").absolute()
    in_use = multihost.broadcast(lambda: folder.exists() and not _is_empty(folder))
    if in_use and not replace:
        raise UserError(
            f"{folder}: the path exists and is not an empty folder. Choose another folder."
        )
    aside, old = (
        folder.with_name(f".{folder.name}.{os.getpid()}.{name}{PARTIAL}") for name in ("new", "old")
    )
    writer = multihost.is_first()
    try:
        if writer:
            aside.mkdir(parents=True)
        yield aside if writer else None
        if writer:
            # The safetensors library creates files that only their owner can read.
            mode = next(aside.glob("*.json")).stat().st_mode
            for path in aside.glob("*.safetensors"):
                path.chmod(mode)
            if in_use:
                folder.rename(old)
            aside.rename(folder)
    except (OSError, SafetensorError) as error:  # A full disk causes a SafetensorError.
        raise UserError(
            f"{folder}: the folder cannot be written ({error}). "
            "Check its permissions and the free disk space."
        ) from None
    finally:
        if writer:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for rest in (aside, old):
                shutil.rmtree(rest, ignore_errors=True)
    multihost.barrier(f"the export to {folder.name}")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write_weights(
    lm: LanguageModel, folder: Path | None, dtype: str | None, shard_bytes: int
) -> None:
    """Writes the weights to `folder`, one file after the other.

    If `folder` is None, the function only takes part in gathering the tensors of all processes.
    """
    files: list[dict[str, int]] = []  # Each file has a dict from tensor name to number of bytes.
    shard: dict[str, np.ndarray] = {}

    def flush() -> None:
        if folder is not None and shard:
            # Some versions of transformers 4 refuse files without this metadata.
            save_file(shard, folder / f"{len(files)}.part", metadata={"format": "pt"})
        files.append({name: array.nbytes for name, array in shard.items()})
        shard.clear()

    for name, array in _tensors(lm, dtype):
        if shard and sum(a.nbytes for a in shard.values()) + array.nbytes > shard_bytes:
            flush()
        if folder is not None:
            shard[name] = array
    flush()
    if folder is None:
        return
    if len(files) == 1:
        (folder / "0.part").rename(folder / SINGLE_FILE)
        return
    weight_map = {}
    for i, names in enumerate(files):
        file = f"model-{i + 1:05}-of-{len(files):05}.safetensors"
        (folder / f"{i}.part").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    total = sum(sum(names.values()) for names in files)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_hf_json(folder / INDEX_FILE, index)


def _tensors(lm: LanguageModel, dtype: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and the array of each exported tensor, cast to its dtype in the export."""
    for tensor, array in to_hf(lm.model, lm.naming, lm.config):
        array = array.astype(jnp.dtype(dtype or lm.source_dtype[tensor.name]), copy=False)
        yield tensor.name, array
        if lm.naming.head is not None and tensor.entry.parts[0][0] == "embed":
            yield lm.naming.head, array
    if lm.naming.carried:
        source = SafetensorsFolder(lm.source)
        for name in lm.naming.carried:
            yield name, source.read(name, (slice(None),) * len(source.shape(name)))


def _write_texts(lm: LanguageModel, folder: Path, dtype: str | None) -> None:
    config = {key: value for key, value in lm.hf_config.items() if key not in _DROPPED_KEYS}
    config["architectures"] = [family_of(config, lm.source).architecture]
    source_dtype = lm.hf_config.get("dtype") or lm.hf_config.get("torch_dtype")
    config["dtype"] = dtype or source_dtype or lm.source_dtype[lm.naming.find("embed")[0].pattern]
    config["torch_dtype"] = config["dtype"]  # The key had this name before transformers 4.56.
    if isinstance(text := config.get("text_config"), Mapping):
        config["text_config"] = _older_rope(text) | text
    write_hf_json(folder / "config.json", _older_rope(config) | config)
    if lm.generation_config is not None:
        write_hf_json(folder / "generation_config.json", lm.generation_config)
    lm.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    write_hf_json(path, _for_transformers_4(json.loads(path.read_text(encoding="utf-8"))))
    copy_side_files(lm.source, folder)


def _older_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts `rope_parameters` of a `config.json` to the fields that transformers 4 reads.

    Only transformers 5 reads `rope_parameters`. Without the converted fields, transformers 4 would
    use its own default frequencies. The result is empty if `config` has no `rope_parameters`.
    """
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return {}
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)  # Gemma 3 has two kinds of layers.
    older = {k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if k in rope}
    if isinstance(local, Mapping) and "rope_theta" in local:
        older["rope_local_base_freq"] = local["rope_theta"]
    rule = rope.get("rope_type", "default")
    scaling = {k: value for k, value in rope.items() if k not in older}
    if rule == "longrope":  # Phi-3 accepts no other fields than `type` and the factors.
        del scaling["rope_type"]
        scaling["type"] = rule
        original = "original_max_position_embeddings"
        older |= {original: scaling.pop(original)} if original in scaling else {}
    return older | ({"rope_scaling": scaling} if rule != "default" else {})


def _for_transformers_4(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of `tokenizer_config.json` with names that transformers 4 also reads."""
    settings = dict(settings)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Transformers 5 has other names for the list and for the mapping of special tokens.
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    if "model_specific_special_tokens" in settings:
        settings["extra_special_tokens"] = settings.pop("model_specific_special_tokens")
    return settings


def copy_side_files(source: str, folder: Path) -> None:
    """Copies the files of a source model that an export does not write itself.

    Examples are the configuration of an image processor, `tokenizer.model` and the licence.
    Weights, code and hidden files are not copied. If the source is a GGUF file, nothing is copied.

    Args:
        source: folder or GGUF file of the model.
        folder: folder of the export. Its existing files are not replaced.
    """
    path = epath.Path(source)
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        is_left_out = file.name.endswith(_NOT_COPIED) or file.name.startswith(".")
        if not is_left_out and file.is_file() and not (folder / file.name).exists():
            with file.open("rb") as opened, (folder / file.name).open("wb") as copy:
                shutil.copyfileobj(opened, copy)


def write_hf_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file with two spaces of indentation, as Hugging Face libraries do."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
