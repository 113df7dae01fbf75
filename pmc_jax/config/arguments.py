"""Builds the settings of a library call from its arguments, with the checks of YAML files.

An argument is a section, a whole `Config`, or a mapping with the settings of either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

from pmc_jax.config.run import Config
from pmc_jax.config.schema import Section, build
from pmc_jax.errors import UserError

S = TypeVar("S", bound=Section)

Settings: TypeAlias = Mapping[str, object]
_CLASSES: dict[str, type[Section]] = {
    item.name: item.default_factory
    for item in dataclasses.fields(Config)
    if item.default_factory is not dataclasses.MISSING
}


def sections_of(
    name: str,
    config: Section | Settings | None,
    seed: int | None,
    **others: Section | Settings | None,
) -> dict[str, Any]:
    """Returns the sections and the seed that a call reads, by their names in `Config`.

    Args:
        name: name of the section that the argument `config` is, unless it is a whole `Config`.
        config: argument `config`.
        seed: argument `seed`. None selects the seed of a whole `config`, or else 0.
        **others: further arguments by the name of their section. None selects the section of a
            whole `config`, or else the defaults.

    Raises:
        UserError: an argument is neither a section, a `Config` nor a mapping, or a setting is
            invalid. The message names the argument and the setting.
    """
    given = _read(config, name, "config")
    whole = given if isinstance(given, Config) else Config()
    sections = {name: section_of(_CLASSES[name], given, "config")}
    for other, value in others.items():
        value = getattr(whole, other) if value is None else value
        sections[other] = section_of(_CLASSES[other], value, other)
    return sections | {"seed": whole.seed if seed is None else Config(seed=seed).seed}


def section_of(cls: type[S], value: S | Config | Settings | None, argument: str) -> S:
    """Returns the section that an argument is or contains. None selects the defaults.

    Raises:
        UserError: see `sections_of`.
    """
    name = next(name for name, section in _CLASSES.items() if section is cls)
    read = _read(value, name, argument)
    return getattr(read, name) if isinstance(read, Config) else read


def _read(value: Section | Settings | None, name: str, argument: str) -> Section:
    """Returns the section or the whole `Config` that an argument is."""
    cls = _CLASSES[name]
    if isinstance(value, Config | cls):
        return value
    if value is not None and not isinstance(value, Mapping):
        raise UserError(
            f"{argument}: the value must be a {cls.__name__}, a Config or a dict of settings, but "
            f"it is of type {type(value).__name__}. Pass pmc.{cls.__name__}(...) or a dict."
        )
    # A mapping is a whole Config if more of its keys name settings of Config than of the section.
    keys = set(value or {})
    in_config, in_section = (
        len(keys & {item.name for item in dataclasses.fields(one)}) for one in (Config, cls)
    )
    return build(Config if in_config > in_section else cls, value, where=argument)
