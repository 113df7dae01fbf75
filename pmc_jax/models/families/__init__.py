"""Table of all supported model families, which the other files of this package define."""

from collections.abc import Iterable, Mapping
from typing import Any

from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.families import gemma, gpt, llama, olmo2, phi, phi3
from pmc_jax.models.families.family import Family
from pmc_jax.models.fields import Fields
from pmc_jax.models.tensors import Naming

# The keys are values of `model_type` in config.json.
FAMILIES = {
    **llama.FAMILIES,
    **phi.FAMILIES,
    **phi3.FAMILIES,
    **gemma.FAMILIES,
    **olmo2.FAMILIES,
    **gpt.FAMILIES,
}


def family_of(hf: Mapping[str, Any], where: str) -> Family:
    """Returns the model family that the field `model_type` of a `config.json` names.

    Args:
        hf: content of `config.json`.
        where: path of the file, for error messages.

    Raises:
        UserError: the family is not supported.
    """
    model_type = hf.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        found = "is missing" if model_type is None else f"{model_type!r} is not supported"
        raise UserError(
            f"{where}: model_type {found}. Use a model of one of these types: "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def naming(hf: Mapping[str, Any], config: DecoderConfig, names: Iterable[str]) -> Naming:
    """Returns the mapping from the tensors of a checkpoint to the parameters of the decoder.

    Args:
        hf: content of `config.json`.
        config: configuration of the decoder, which `decoder_config` reads from `hf`.
        names: names of the tensors in the checkpoint.
    """
    family = FAMILIES[hf["model_type"]]
    return Naming.of(family.entries, config, names, family.variants, family.carried, family.buffers)


def decoder_config(hf: Mapping[str, Any], where: str) -> DecoderConfig:
    """Converts the content of a `config.json` to the configuration of the decoder.

    Args:
        hf: content of `config.json`.
        where: path of the file, for error messages.

    Raises:
        UserError: the model family is not supported, a field is missing, the sizes are
            inconsistent, or a field requests a computation that is not implemented.
    """
    family = family_of(hf, where)
    if hf.get("quantization_config"):
        raise UserError(
            f"{where}: quantization_config is set, but quantised safetensors are not supported. "
            "Use the model with unquantised weights."
        )
    return family.read(Fields(hf, where))
