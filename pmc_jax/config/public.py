"""Selects the settings that may leave the machine, in model cards and trackers."""

from collections.abc import Iterator

from pmc_jax.config.run import Config
from pmc_jax.config.schema import Section
from pmc_jax.config.type_hints import literals

_SECTIONS = ("pmc", "method", "train", "finetune")


def public_settings(config: Config) -> dict[str, float | str]:
    """Returns the settings of training that contain no private text, by dotted name.

    These are the seed and, of the sections `pmc`, `method`, `train` and `finetune`, all numbers and
    truth values and the texts that are one of several fixed values. Other texts, and the keys of
    mappings, can be names of private files.
    """
    settings: dict[str, float | str] = {"seed": config.seed}
    for name in _SECTIONS:
        settings |= _public(getattr(config, name), f"{name}.")
    return settings


def _public(section: Section, prefix: str) -> Iterator[tuple[str, float | str]]:
    choices = literals(type(section))
    for name, value in vars(section).items():
        if isinstance(value, Section):
            yield from _public(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) or value in choices[name]:
            yield f"{prefix}{name}", value
