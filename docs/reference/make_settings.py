"""Writes settings.md in this folder from the schema in `pmc_jax.config`.

    python docs/reference/make_settings.py

The text of a setting is its entry under "Fields:" in the docstring of its class.
`tests/test_docs_reference.py` fails if the page and the schema differ.
"""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pmc_jax.commands.settings_help import field_texts
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.data import SourceConfig
from pmc_jax.config.run import Config
from pmc_jax.config.schema import KEYS, Section, check_of
from pmc_jax.config.type_hints import hints

PAGE = Path(__file__).with_name("settings.md")

_INTRODUCTION = """# Settings

<!-- make_settings.py writes this page from the schema in pmc_jax/config. Do not edit it. -->

A command reads one YAML file. A dotted name such as `pmc.schedule.epochs` stands for nested
mappings in that file, and the command line can replace a setting by its dotted name:

    pmc unlearn CONFIG.yaml pmc.schedule.epochs=20

In place of a file, a command takes the name of a file that the package ships, such as `quickstart`
(folder `configs/` of the repository). A file or folder with this name comes first.

The schema checks all settings before anything runs; one message lists all faults. A list with one
entry can be written without brackets. "or null" in the column "type" means that `null` is allowed.
"""

_RUN = """## Settings of a run

Every command except `pmc compare` and `pmc verify` uses these settings.
"""

_COMPARE = """## Settings of a comparison

`pmc compare` reads these settings. [comparison.md](comparison.md) explains them.
"""

_SOURCE = "source of rows"
_SCALARS = {bool: "true or false", int: "integer", float: "number", str: "text", Any: "any value"}


def page() -> str:
    """Returns the text of settings.md."""
    seen: dict[type, str] = {SourceConfig: _SOURCE}
    source = list(_tables(SourceConfig, "", seen, heading=_SOURCE))
    parts = [_INTRODUCTION, _RUN, *_tables(Config, "", seen, heading="top level"), *source]
    return "\n".join([*parts, _COMPARE, *_tables(CompareConfig, "", seen, heading="comparison")])


def _tables(
    cls: type[Section], prefix: str, seen: dict[type, str], heading: str = ""
) -> Iterator[str]:
    """Yields the table of a section and then the tables of its inner sections.

    Each class has one table only.

    Args:
        prefix: dotted name of the section with a dot at the end, or "" for the root.
        seen: maps each class to the heading of its table; the function adds classes.
        heading: heading that replaces the dotted name.
    """
    heading = seen[cls] = heading or prefix.rstrip(".")
    summary, texts = inspect.cleandoc(cls.__doc__).partition("\nFields:\n")[0], field_texts(cls)
    types_of = hints(cls)
    rows, inner = [], []
    for field in dataclasses.fields(cls):
        hint, name = types_of[field.name], prefix + field.name
        section = _section_in(hint)
        if section is not None and section not in seen:
            inner.append((section, f"{name}.NAME." if hint is not section else f"{name}."))
            if hint is section:  # the table of the section describes its fields
                continue
        type_ = _type(hint, seen, cls, field)
        text = _meaning(texts[field.name])
        rows.append(f"| `{name}` | {type_} | {_default(field)} | {text} |")
    if rows:
        header = "| name | type | default | meaning |\n|-|-|-|-|\n"
        yield (
            f"### {heading}\n\n{_linked(' '.join(summary.split()))}\n\n{header}"
            + "\n".join(rows)
            + "\n"
        )
    for section, inner_prefix in inner:
        yield from _tables(section, inner_prefix, seen)


def _section_in(hint: Any) -> type[Section] | None:
    """Returns the section class that a type hint is or contains, or None."""
    inner = [hint, *typing.get_args(hint)]
    return next((kind for kind in inner if dataclasses.is_dataclass(kind)), None)


def _type(hint: Any, seen: dict[type, str], cls: type[Section], field: dataclasses.Field) -> str:
    text = _type_name(hint, seen)
    if keys := field.metadata.get(KEYS):
        text += f"; names: {', '.join(keys)}"
    if (check := check_of(cls, field)) is None:
        return _cell(text)
    expected = check.expected.removeprefix("a number ")
    if expected.startswith("text "):
        return _cell(text.replace("text", expected, 1))
    return _cell(f"{text}, {expected}")


def _type_name(hint: Any, seen: dict[type, str]) -> str:
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return f"{_type_name(inner, seen)} or null"
    if kind is tuple:
        return f"list of {_type_name(arguments[0], seen)}"
    if kind is dict:
        return f"mapping from name to {_type_name(arguments[1], seen)}"
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint not in seen:
        return "section"
    anchor = re.sub(r"[^a-z0-9_ -]", "", seen[hint].lower()).replace(" ", "-")
    return f"[{seen[hint]}](#{anchor})"


def _default(field: dataclasses.Field) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory()
    if dataclasses.is_dataclass(value):
        return "not given" if isinstance(value, SourceConfig) else "its defaults"
    if isinstance(value, str) and re.fullmatch(r"[\w.]+", value):
        text = value
    elif isinstance(value, tuple):
        text = f"[{', '.join(value)}]" if all(isinstance(v, str) for v in value) else str([*value])
    else:
        text = re.sub(r"e-0", "e-", json.dumps(value))
    return f"`{text}`"


def _meaning(text: str) -> str:
    """Returns a docstring entry in YAML terms, without the choices that the type lists."""
    text = re.sub(r" \(\w+( \| \w+)+\)", "", text)
    return _cell(_linked(re.sub(r"\bNone\b", "null", text)))


def _linked(text: str) -> str:
    """Returns the text with paths of documentation pages as links."""
    return re.sub(
        r"docs/(reference/)?(results/)?(\w+\.md)",
        lambda m: f"[{m[3]}]({'../results/' if m[2] else ''}{m[3]})",
        text,
    )


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
