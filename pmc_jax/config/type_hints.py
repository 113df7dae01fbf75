"""Types of the fields of a dataclass, in which `Literal` declares the texts that a field takes."""

import dataclasses
import functools
import operator
import types
import typing
from typing import Any


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Returns the type of each field by its name, with str in place of `Literal`."""
    return {name: _widened(hint) for name, hint in _declared(cls).items()}


@functools.cache
def literals(cls: type) -> dict[str, tuple[str, ...]]:
    """Returns the texts of the `Literal` types of each field by its name."""
    return {name: _texts(hint) for name, hint in _declared(cls).items()}


def _declared(cls: type) -> dict[str, Any]:
    declared = typing.get_type_hints(cls)
    return {item.name: declared[item.name] for item in dataclasses.fields(cls)}


def _widened(hint: Any) -> Any:
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Literal:
        return str
    if not _texts(hint):
        return hint
    if kind in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(_widened, arguments))
    return kind[tuple(map(_widened, arguments))]


def _texts(hint: Any) -> tuple[str, ...]:
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return tuple(text for inner in typing.get_args(hint) for text in _texts(inner))
