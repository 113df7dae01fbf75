"""Export of adapters as a PEFT folder: `adapter_config.json` and `adapter_model.safetensors`.

PEFT has one pair of matrices per module: lora_A [r, in] and lora_B [out, r]. Some modules hold
several projections, such as Phi-3's qkv_proj. For these, the A matrices are concatenated along r,
and each B fills its own rows and columns. Rank and alpha of the module are multiplied by the number
of adapted projections, so that the factor alpha / rank does not change.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pmc_jax.config.train import LoRAConfig
from pmc_jax.distributed.multihost import host_array
from pmc_jax.models.decoder import Decoder
from pmc_jax.models.export import write_hf_json, written_aside
from pmc_jax.models.families import family_of
from pmc_jax.models.hf import joined
from pmc_jax.models.load import LanguageModel
from pmc_jax.models.parameters import A, B, contracted_axes
from pmc_jax.models.remote import is_address
from pmc_jax.models.tensors import Entry

_log = logging.getLogger(__name__)
_PREFIX = "base_model.model."


def export_adapter(
    lm: LanguageModel,
    adapters: Decoder,
    lora: LoRAConfig,
    folder: str | Path,
    *,
    replace: bool = False,
) -> None:
    """Writes adapters as a folder that `peft.PeftModel.from_pretrained` can load.

    Args:
        lm: base model. `adapter_config.json` names its source.
        adapters: trained adapters, created by `lora.init_adapters`.
        lora: settings with the rank and alpha of the adapters.
        folder: folder to write; it must be absent or empty unless `replace` is set.
        replace: whether to delete an existing folder once the new folder is complete.

    Raises:
        UserError: the folder is not empty and `replace` is not set, or it cannot be written.
    """
    tensors, ranks, modules = {}, {}, set()
    conv1d = False
    # The tensors of a checkpoint may have other names than the modules of transformers.
    names = {e.parts: e.pattern for e in family_of(lm.hf_config, lm.source).entries}
    for entry, layer, a, b in _pairs(lm, adapters):
        module = names[entry.parts].format(i=layer).removesuffix(".weight")
        suffix = ".".join(module.split(".")[-2:])
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
        modules.add(suffix)
        if a.shape[0] != lora.rank:
            ranks[re.escape(suffix)] = a.shape[0]
        conv1d |= entry.theirs[0] == _letters(entry)[0]
    config = _base(lm.source) | _config(lora, sorted(modules), ranks)
    config |= {"exclude_modules": _outside(lm, modules), "fan_in_fan_out": conv1d}
    with written_aside(folder, replace=replace) as aside:
        if aside is not None:
            save_file(tensors, aside / "adapter_model.safetensors", metadata={"format": "pt"})
            write_hf_json(aside / "adapter_config.json", config)


def _outside(lm: LanguageModel, modules: set[str]) -> str | None:
    """Returns a regular expression for modules outside the decoder that the adapters do not change.

    An example is the image encoder of Gemma 3, whose modules end with the same names. The result is
    None if no module outside the decoder ends with a name in `modules`.
    """
    ends = tuple(f".{name}.weight" for name in modules)
    tops = {
        name.removeprefix("model.").split(".")[0]
        for name in lm.naming.carried
        if name.endswith(ends)
    }
    return rf"(.*\.)?({'|'.join(sorted(tops))})\..*" if tops else None


def _base(source: str) -> dict[str, str | None]:
    """Returns the entries by which PEFT finds the base model, whatever the current folder is.

    The name is the Hub name for a model in the local cache of the Hub, a remote address, or an
    absolute path. The revision is the commit of a model in this cache, or else None. The function
    logs a warning if PEFT cannot load the model by this name.
    """
    name, revision = _name_and_revision(source)
    return {"base_model_name_or_path": name, "revision": revision}


def _name_and_revision(source: str) -> tuple[str, str | None]:
    if is_address(source):
        _log.warning(
            "%s: PEFT cannot load the base of the adapters from this address. Copy the folder to "
            "this machine, and set base_model_name_or_path in adapter_config.json to its new path.",
            source,
        )
        return source, None
    path = Path(source).resolve()
    if path.is_file():
        _log.warning(
            "%s: PEFT cannot load the base of the adapters from a GGUF file. Write the base as a "
            "folder with pmc_jax.load(...).save(FOLDER), and set base_model_name_or_path in "
            "adapter_config.json to the path of that folder.",
            path,
        )
    # The cache of the Hub has folders such as models--org--name/snapshots/COMMIT.
    cached = re.fullmatch(r"models--(.+)", path.parent.parent.name)
    if cached and path.parent.name == "snapshots":
        return cached[1].replace("--", "/", 1), path.name
    return str(path), None


def _config(lora: LoRAConfig, modules: list[str], ranks: dict[str, int]) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
        "rank_pattern": ranks,
        "alpha_pattern": {name: lora.alpha * rank / lora.rank for name, rank in ranks.items()},
    }


def _letters(entry: Entry) -> tuple[str, str]:
    """Returns the letters of the input axes and of the output axes of an entry's projection."""
    name, ours = entry.parts[0]
    cut = contracted_axes(name)
    return ours[:cut], ours[cut:]


def _pairs(
    lm: LanguageModel, adapters: Decoder
) -> Iterator[tuple[Entry, int, np.ndarray, np.ndarray]]:
    """Yields (entry, layer, A [r,in], B [out,r]) for every module with an adapter.

    r is the rank of the module, and `in` and `out` are its numbers of inputs and outputs.
    """
    arrays = {name: host_array(x) for name, x in adapters.arrays().items()}
    shapes = {name: x.shape for name, x in lm.model.arrays().items()}
    for entry in lm.naming.entries:
        adapted = [name for name, _ in entry.parts if name + A in arrays]
        if not adapted:
            continue
        cut, rank = contracted_axes(adapted[0]), arrays[adapted[0] + A].shape[-1]
        total = rank * len(adapted)
        group = next(g for g in entry.theirs if set(_letters(entry)[1]) <= set(g))
        for layer in range(lm.config.num_layers):
            ups = []
            for name, ours in entry.parts:
                up = np.zeros((*shapes[name][1 + cut :], total), np.float32)
                if name in adapted:
                    begin = rank * adapted.index(name)
                    up[..., begin : begin + rank] = np.moveaxis(arrays[name + B][layer], 0, -1)
                ups.append((up, ours[cut:] + "r"))
            downs = [arrays[name + A][layer].reshape(-1, rank).T for name in adapted]
            whole = joined(ups, (group, "r"), None if entry.joined is None else 0)
            yield entry, layer, np.concatenate(downs), whole.reshape(-1, total)
