"""Frozen dataclasses that check their own fields, and their construction from nested dicts.

A settings class derives from `Section`. Its type hints declare what a field may hold: bool, int,
float, str, another section, `X | None`, `dict[str, section]`, `tuple[section, ...]`, and Any, which
is not converted; `setting` adds a `Check` of the value. One function, `_convert`, handles these
types, so values from a file and values set in code follow the same rules and get the same messages.
Nothing here knows the name of a setting.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import numbers
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pmc_jax.errors import UserError

S = TypeVar("S", bound="Section")

CHECK = "check"
KEYS = "keys"  # metadata of a dict field: the names that its keys may have


@dataclass(frozen=True)
class Check:
    """A condition on a value: `expected` completes "expected ...", `holds` tests the value."""

    expected: str
    holds: Callable[[Any], bool]


def above(low: float) -> Check:
    return Check(f"a number above {low}", lambda value: value > low)


def at_least(low: float) -> Check:
    return Check(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Check:
    return Check(f"from {low} to {high}", lambda value: low <= value <= high)


def one_of(*choices: str) -> Check:
    return Check(f"one of {', '.join(choices)}", lambda value: value in choices)


NOT_EMPTY = Check("text that is not empty", bool)
FRACTION = Check("above 0 and at most 1", lambda value: 0 < value <= 1)
BELOW_ONE = Check("from 0 to below 1", lambda value: 0 <= value < 1)
SEED = between(0, 2**32 - 1)


def setting(default: Any, check: Check) -> Any:
    """A dataclass field with a default and a check of its value, or of each entry of a list or
    mapping. Where the type allows None, None passes the check.
    """
    return dataclasses.field(default=default, metadata={CHECK: check})


class SettingsError(UserError):
    """Invalid settings; `faults` has one entry per fault, each led by its dotted name."""

    def __init__(self, where: str, faults: Sequence[str]):
        super().__init__(f"{where}: {'; '.join(faults)}")
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Section:
    """Base class of settings: converts and checks its fields when built.

    Integers given for floats become floats, lists become tuples, mappings become sections.

    Raises:
        SettingsError: invalid fields; one line lists all faults, led by the class name.
    """

    shorthand: ClassVar[str | None] = None  # the field that a bare text stands for

    def __post_init__(self) -> None:
        report = _Report()
        for item in dataclasses.fields(self):
            value = _field_value(type(self), item, getattr(self, item.name), item.name, report)
            object.__setattr__(self, item.name, value)
        faults = report.faults or self.cross_faults()
        if faults:
            raise SettingsError(type(self).__name__, faults)

    def cross_faults(self) -> list[str]:
        """Faults between fields that are each right alone, as "field: what is wrong"."""
        return []


def build(cls: type[S], raw: Any, *, where: str, faults: Sequence[str] = ()) -> S:
    """Builds a section from nested dicts.

    Args:
        cls: class to build.
        raw: mapping of field names; None = all defaults.
        where: origin of the settings, for messages.
        faults: earlier faults, which the error reports too.

    Raises:
        SettingsError: any fault; one line lists all faults, each led by its dotted name.
    """
    report = _Report(list(faults), tuple(dotted_names(cls)))
    section = _section(cls, raw, "", report)
    if report.faults:
        raise SettingsError(where, report.faults)
    return section


def dotted_names(cls: type[Section], prefix: str = "") -> Iterator[str]:
    """All dotted names under a section, including those of sections in lists and mappings."""
    for item in dataclasses.fields(cls):
        name, hint = f"{prefix}{item.name}", _hints(cls)[item.name]
        yield name
        inner = [hint, *typing.get_args(hint)]
        section = next((kind for kind in inner if dataclasses.is_dataclass(kind)), None)
        if section is not None:
            keys = item.metadata.get(KEYS)
            for entry in [name] if keys is None else [f"{name}.{key}" for key in keys]:
                yield from dotted_names(section, f"{entry}.")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of nested mappings; lists and empty mappings are values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The differences between two nested mappings: `["seed: 15 there, 20 here", ...]`."""
    old, new = flatten(recorded), flatten(wanted)
    # JSON text distinguishes 1 from true, and the settings digest hashes it too.
    old_text, new_text = (
        {name: json.dumps(value, sort_keys=True) for name, value in flat.items()}
        for flat in (old, new)
    )
    return [
        f"{name}: {old_text.get(name, 'absent')} there, {new_text.get(name, 'absent')} here"
        for name in dict.fromkeys([*old, *new])
        if old_text.get(name) != new_text.get(name)
    ]


def nearest(name: str, candidates: Sequence[str]) -> str | None:
    """The dotted candidate with the last part most similar to that of `name`; None if none is."""
    by_last = {full.rpartition(".")[2]: full for full in reversed(candidates)}
    match = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=1, cutoff=0.6)
    return by_last[match[0]] if match else None


def offer(guess: str | None, candidates: Sequence[str]) -> str:
    """The fix for an unknown name: the guess of `nearest`, or else all candidates."""
    return f"did you mean {guess}?" if guess else f"known here: {', '.join(candidates)}"


def shown(value: Any) -> str:
    """A value for messages: short, on one line, in YAML notation."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


# type -> its name in messages, the test, the conversion to the plain type
_SCALARS: dict[type, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool), bool),
    int: ("an integer", _is_integer, int),
    float: ("a finite number", _is_number, float),
    str: ("text in quotes", lambda value: isinstance(value, str | os.PathLike), os.fspath),
}


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@dataclass
class _Report:
    """The faults so far, and all dotted names, to suggest one for an unknown name."""

    faults: list[str] = dataclasses.field(default_factory=list)
    names: tuple[str, ...] = ()

    def expected(self, name: str, noun: str, value: Any) -> None:
        self.faults.append(f"{name}: expected {noun}, got {shown(value)}")

    def known_entries(
        self, raw: Mapping[str, Any], prefix: str, keys: Sequence[str]
    ) -> dict[str, Any]:
        """The entries of `raw` whose key is in `keys`; any other key is a fault."""
        siblings = [f"{prefix}{key}" for key in keys]
        for key in raw:
            if key not in keys:
                name = prefix + (key if isinstance(key, str) and key.isprintable() else repr(key))
                guess = nearest(name, siblings) or nearest(name, self.names)
                self.faults.append(f"{name}: unknown key, {offer(guess, keys)}")
        return {key: value for key, value in raw.items() if key in keys}


def _field_value(
    cls: type[Section], item: dataclasses.Field, value: Any, name: str, report: _Report
) -> Any:
    """The value of one field, converted and checked."""
    before = len(report.faults)
    value = _convert(_hints(cls)[item.name], value, name, report, item.metadata.get(KEYS))
    check = item.metadata.get(CHECK)
    if check is not None and len(report.faults) == before:
        for entry_name, entry in _entries(name, value):
            if entry is not None and not check.holds(entry):
                report.expected(entry_name, check.expected, entry)
    return value


def _entries(name: str, value: Any) -> list[tuple[str, Any]]:
    """Dotted name and value of each entry of a list or mapping; any other value is one entry."""
    if isinstance(value, dict):
        return [(f"{name}.{key}", entry) for key, entry in value.items()]
    if isinstance(value, tuple):
        return [(f"{name}.{index}", entry) for index, entry in enumerate(value)]
    return [(name, value)]


def _convert(
    hint: Any, value: Any, name: str, report: _Report, keys: Sequence[str] | None = None
) -> Any:
    """Converts `value` to the type `hint`; reports a fault and returns None if it cannot."""
    if hint is Any:
        return value
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):  # X | None is the only union of a schema
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _convert(inner, value, name, report)
    if kind is tuple:
        if value is not None and not isinstance(value, list | tuple):
            return (_convert(arguments[0], value, name, report),)
        return tuple(
            _convert(arguments[0], entry, f"{name}.{index}", report)
            for index, entry in enumerate(value or ())
        )
    if kind is dict:
        if value is not None and not isinstance(value, Mapping):
            report.expected(name, "a mapping", value)
            return None
        entries = report.known_entries(value or {}, f"{name}.", keys or list(value or {}))
        return {
            key: _convert(arguments[1], entry, f"{name}.{key}", report)
            for key, entry in entries.items()
        }
    if hint in _SCALARS:
        noun, fits, plain = _SCALARS[hint]
        if fits(value):
            return plain(value)
        report.expected(name, noun, value)
        return None
    return _section(hint, value, f"{name}.", report)


def _section(cls: type[Section], raw: Any, prefix: str, report: _Report) -> Any:
    """Builds a section from `raw`; `prefix` is its dotted name and a dot, or "" for the root."""
    if isinstance(raw, cls):
        return raw
    if cls.shorthand and isinstance(raw, str | os.PathLike):
        raw = {cls.shorthand: raw}
    if raw is not None and not isinstance(raw, Mapping):
        report.expected(prefix.rstrip(".") or "settings", "a mapping", raw)
        return None
    fields = {item.name: item for item in dataclasses.fields(cls)}
    before = len(report.faults)
    values = {
        key: _field_value(cls, fields[key], value, f"{prefix}{key}", report)
        for key, value in report.known_entries(raw or {}, prefix, list(fields)).items()
    }
    if len(report.faults) > before:
        return None
    try:
        return cls(**values)
    except SettingsError as error:  # only faults between fields remain
        report.faults.extend(f"{prefix}{fault}" for fault in error.faults)
        return None
