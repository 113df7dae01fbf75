"""Reader of YAML files and of `section.key=value` overrides, which returns nested dicts.

Unquoted scalars follow YAML 1.2. Under YAML 1.2, `1e-5` is a number, and `10:40`, `2025-04-10` and
`yes` are text; YAML 1.1 reads these texts as 640, a date and true. The reader rejects repeated
keys. It also rejects aliases, because aliases can expand a small file to any size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pmc_jax.config.wording import is_name, is_text
from pmc_jax.errors import UserError, reason, system_errors

MAX_FILE_BYTES = 1_000_000


class _Own(str):
    """Text of a fault that comes from this module and quotes no private text."""


class _Loader(yaml.SafeLoader):
    """YAML loader that reads scalars as in YAML 1.2 and rejects aliases and repeated keys."""

    yaml_implicit_resolvers: dict[str | None, list] = {}  # noqa: RUF012 (PyYAML needs this form)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem=_Own("aliases such as *name are not allowed"), problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in getattr(node, "value", ()):
            key = (key_node.tag, str(key_node.value))
            if key in seen:
                name = f"the key '{key[1]}'" if is_name(key[1]) else "a key"
                raise yaml.MarkedYAMLError(
                    problem=_Own(f"{name} occurs twice"), problem_mark=key_node.start_mark
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
    """Returns the mapping in a YAML file, which is empty if the file is empty.

    Raises:
        UserError: the file cannot be read, is larger than `MAX_FILE_BYTES`, is not valid YAML (the
            message names the line), or does not contain a mapping.
    """
    fix = "Pass the path of a YAML file."
    if not is_text(str(path)):  # `run` of a comparison may be any text.
        raise UserError(f"{path}: no file can have this name. {fix}")
    with system_errors(f"{path}: the settings cannot be read", fix), Path(path).open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise UserError(
            f"{path}: the file must have at most {MAX_FILE_BYTES} bytes, but it is larger. Pass a "
            "YAML file with settings."
        )
    settings = _parse(text, str(path))
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: the file does not contain a mapping. Write sections such as 'pmc:' at the "
            "top level."
        )
    return settings


def line_numbers(path: str | Path, section: str = "") -> dict[str, str]:
    """Returns "FILE:LINE" of each setting in a YAML file, by dotted name.

    Args:
        path: file that `read_settings` has read.
        section: dotted name of the section that the file holds; "" means all sections. This name
            maps to the file without a line.
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
    """Returns a copy of the settings with overrides applied, and the faults of the overrides.

    Args:
        settings: nested dicts.
        overrides: texts of the form `section.key=value`. `set_dotted` describes the names. A value
            that starts with a quote is a quoted YAML scalar. A value that starts with `[` or `{` is
            a list or a mapping. Any other value is an unquoted scalar.
    """
    faults: list[str] = []
    for number, override in enumerate(overrides, start=1):
        name, equals, text = override.partition("=")
        where = f"override '{name.strip()}'" if is_name(name.strip()) else f"override {number}"
        if not equals or not all(name.strip().split(".")):
            faults.append(f"{where}: the text has the wrong form. Write section.key=value.")
            continue
        try:
            settings = set_dotted(settings, name.strip(), _value(text, where))
        except UserError as error:
            faults.append(str(error))
        except LookupError as error:
            faults.append(f"{where}: {error}")
    return settings, faults


def set_dotted(tree: Any, name: str, value: Any) -> Any:
    """Returns a copy of nested settings in which the entry with a dotted name is set.

    Missing sections are created, and a section that is null is treated as empty. A number in the
    name selects an entry of a list.

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
            "a part of this name is neither a section nor an entry of a list. If the file contains "
            "only a path there, replace the path by {path: ...}."
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
    except ValueError:  # The text is an integer of thousands of digits.
        return text


def _parse(text: str | bytes, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # _Loader is a SafeLoader.
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context or "unknown fault"
        problem = problem if isinstance(problem, _Own) else _QUOTED.sub(_without_text, problem)
        raise UserError(
            f"{where}{line}: the YAML is invalid ({problem}). Correct the YAML."
        ) from None
    except yaml.YAMLError as error:
        raise UserError(
            f"{where}: the YAML is invalid ({reason(error)}). Correct the YAML."
        ) from None
    except (ValueError, LookupError, AttributeError, RecursionError):
        raise UserError(
            f"{where}: the YAML is invalid, because a value does not fit its tag (such as !!int), "
            "a number has too many digits or brackets are nested too deeply. Correct the YAML."
        ) from None


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def _without_text(quoted: re.Match) -> str:
    """Returns a quotation in a message of PyYAML, or "..." if the quotation may be private text."""
    return quoted[0] if re.fullmatch(r".(<[a-z ]+>|\W|\\.).", quoted[0]) else "..."
