"""Reads YAML and `section.key=value` overrides into nested dicts and reports the faults of both.

Plain scalars follow YAML 1.2, which is what people expect: `1e-5` is a number, `10:40` and
`2025-04-10` are text (YAML 1.1 makes them 640 and a date), `yes` is text. The loader refuses
repeated keys, and aliases, which can expand a small file to any size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pmc_jax.errors import UserError, system_errors

MAX_FILE_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """A SafeLoader with the plain scalars of YAML 1.2; refuses aliases and repeated keys."""

    yaml_implicit_resolvers: dict[str | None, list] = {}  # noqa: RUF012 (PyYAML's own form)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed, write the value out", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in getattr(node, "value", ()):
            key = (key_node.tag, str(key_node.value))
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key_node.value!r} is given twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def read_settings(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Raises:
        UserError: the file cannot be read, is larger than `MAX_FILE_BYTES`, is bad YAML (the
            message names the line), or holds something other than a mapping.
    """
    with system_errors(f"{path}: cannot read the settings"), Path(path).open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise UserError(f"{path}: settings above {MAX_FILE_BYTES} bytes, is this the right file?")
    settings = _parse(text, str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: expected a mapping of sections such as 'pmc:', got something else"
        )
    return settings


def line_numbers(path: str | Path, section: str = "") -> dict[str, str]:
    """Dotted name -> "FILE:LINE" of each setting in a file that `read_settings` reads.

    Args:
        section: dotted name of the section that the file holds ("" = all sections); its value is
            the file without a line.
    """
    lines = {section: str(path)}
    nodes = [(section, yaml.compose(Path(path).read_bytes(), _Loader))]
    for name, node in nodes:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            inner = f"{name}.{key.value}".lstrip(".")
            lines[inner] = f"{path}:{key.start_mark.line + 1}"
            nodes.append((inner, value))
    return lines


def apply_overrides(
    settings: dict[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings changed by `section.key=value` texts, and the faults of those texts.

    A value that starts with a quote is a quoted YAML scalar, one that starts with `[` or `{` is a
    list or mapping, and any other is a plain scalar. Names are as in `set_dotted`; `settings`
    itself is not changed.
    """
    faults: list[str] = []
    for override in overrides:
        name, equals, text = override.partition("=")
        where = f"override {override!r}"
        if not equals or not all(name.strip().split(".")):
            faults.append(f"{where}: expected section.key=value")
            continue
        try:
            settings = set_dotted(settings, name.strip(), _value(text, where))
        except UserError as error:
            faults.append(str(error))
        except LookupError as error:
            faults.append(f"{where}: {error}")
    return settings, faults


def set_dotted(tree: Any, name: str, value: Any) -> Any:
    """Returns nested settings with one entry set, by its dotted name; `tree` is not changed.

    Missing sections are created, a null section counts as empty, and a number in the name selects
    an entry of a list.

    Raises:
        LookupError: a part of the name is neither a section nor an entry of a list.
    """
    first, _, rest = name.partition(".")
    if isinstance(tree, list) and first.isdecimal() and int(first) < len(tree):
        index = int(first)
        entry = set_dotted(tree[index], rest, value) if rest else value
        return [*tree[:index], entry, *tree[index + 1 :]]
    if tree is not None and not isinstance(tree, dict):
        raise LookupError(
            "a part of this name is neither a section nor an entry of a list; where the file has "
            "a bare path, write {path: ...} there"
        )
    tree = tree or {}
    return {**tree, first: set_dotted(tree.get(first), rest, value) if rest else value}


def _value(text: str, where: str) -> Any:
    text = text.strip()
    if text[:1] in ("'", '"', "[", "{"):
        return _parse(text, where)
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except ValueError:  # an integer of thousands of digits
        return text


def _parse(text: str | bytes, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise UserError(f"{where}{line}: bad YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: bad YAML: {' '.join(str(error).split())}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: bad YAML: a number too long or too many brackets") from error
