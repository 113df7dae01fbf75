"""Formats the settings that a command reads as tables for the help of the command.

Names, types and defaults come from the settings classes. Descriptions come from the sections
`Fields:` of their docstrings.
"""

import argparse
import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pmc_jax.config.schema import Section
from pmc_jax.config.type_hints import hints

_FIELDS = re.compile(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", re.MULTILINE)


def settings_help(root: type[Section], names: Sequence[str]) -> str:
    """Formats one table per section of the settings, as wide as the terminal.

    Args:
        root: class of all settings.
        names: dotted names of the settings or sections to show. If empty, the result is "".
    """
    formatter = argparse.HelpFormatter("pmc", max_help_position=40)
    for heading, (cls, fields) in dict(_sections(root, names)).items():
        texts, types_of = field_texts(cls), hints(cls)
        width = max(len(item.name) for item in fields)
        formatter.start_section(heading)
        formatter.add_text(inspect.cleandoc(cls.__doc__).partition("\n\n")[0])
        for item in fields:
            row = f"{item.name:{width}} {_type_name(types_of[item.name])}{_default(item)}"
            text = texts[item.name].replace("%", "%%").replace("None", "null")
            formatter.add_argument(argparse.Action([], "", metavar=row, help=text))
        formatter.end_section()
    tables = formatter.format_help()
    return tables and f"\nSettings, in the file or as section.key=value:\n\n{tables}"


def field_texts(cls: type[Section]) -> dict[str, str]:
    """Returns the description of each field from the docstrings of a class and its base classes."""
    docs = [inspect.cleandoc(base.__doc__ or "") for base in reversed(cls.__mro__)]
    parts = [doc.partition("Fields:\n")[2].partition("\n\n")[0] for doc in docs]
    entries = [row for part in parts for row in _FIELDS.findall(part)]
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def _sections(
    cls: type[Section], names: Sequence[str], prefix: str = ""
) -> Iterator[tuple[str, tuple[type[Section], Sequence[dataclasses.Field]]]]:
    """Yields the heading, the class and the fields of each section in `names`.

    A section class that occurs in a list or a mapping, or that has a shorthand, has its own table.
    """
    fields, inner = [], []
    for item in dataclasses.fields(cls):
        name, hint = f"{prefix}{item.name}", hints(cls)[item.name]
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        if hint in kinds and hint.shorthand is None:
            inner += _sections(hint, names, f"{name}.")
        elif any(f"{name}.".startswith(f"{reached}.") for reached in names):
            fields.append(item)
            inner += [(_type_name(k), (k, dataclasses.fields(k))) for k in kinds]
    if fields:
        yield prefix.rstrip(".") or "top level", (cls, fields)
    yield from inner


def _type_name(hint: Any) -> str:
    inner = [kind for kind in typing.get_args(hint) if kind not in (types.NoneType, ...)]
    if not inner:
        return hint.__name__.removesuffix("Config").lower()
    container = {tuple: "list of ", dict: "mapping of "}.get(typing.get_origin(hint), "")
    return container + _type_name(inner[-1])


def _default(item: dataclasses.Field) -> str:
    factory = item.default_factory
    value = item.default if factory is dataclasses.MISSING else factory()
    return "" if isinstance(value, Section) else f" = {json.dumps(value)}"
