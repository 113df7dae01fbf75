"""Base class and builder of the settings, which are frozen dataclasses that check their fields.

A settings class derives from `Section`. The type hint of a field declares its possible values:
bool, int, float, str, `Literal` of texts, another section, `X | None`, `dict[str, X]`,
`tuple[X, ...]` or Any. Values of type Any are not converted. `setting` adds a `Check` of the value.
Values from a file and values set in code follow the same rules, because `_convert` handles both.
This module contains no names of settings.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pmc_jax.config.notebook import table
from pmc_jax.config.type_hints import hints, literals
from pmc_jax.config.wording import is_text, key_name, nearest, offer, shown
from pmc_jax.errors import UserError, escaped

S = TypeVar("S", bound="Section")

CHECK = "check"
CONVERT = "convert"
KEYS = "keys"  # This metadata of a dict field lists the allowed keys.
_MAX_UNKNOWN = 20  # Further unknown names are only counted.


@dataclass(frozen=True)
class Check:
    """A condition on the value of a setting.

    Attributes:
        expected: text that completes "The value must be ...".
        holds: function that returns whether a value satisfies the condition.
    """

    expected: str
    holds: Callable[[Any], bool]


def above(low: float) -> Check:
    return Check(f"a number above {low}", lambda value: value > low)


def at_least(low: float) -> Check:
    return Check(f"at least {low}", lambda value: value >= low)


def between(low: float, high: float) -> Check:
    return Check(f"between {low} and {high}", lambda value: low <= value <= high)


def one_of(*choices: str) -> Check:
    return Check("one of " * (len(choices) > 1) + ", ".join(choices), choices.__contains__)


NOT_EMPTY = Check("text that is not empty", bool)
FRACTION = Check("above 0 and at most 1", lambda value: 0 < value <= 1)
BELOW_ONE = Check("at least 0 and below 1", lambda value: 0 <= value < 1)
SEED = between(0, 2**32 - 1)


def setting(default: Any, check: Check, *, convert: Callable[[Any], Any] | None = None) -> Any:
    """Returns a dataclass field with a default and a check.

    If the value is a list or a mapping, the check applies to each entry. None always passes. A
    value that passes and is not None is replaced by `convert(value)`.
    """
    return dataclasses.field(default=default, metadata={CHECK: check, CONVERT: convert})


class SettingsError(UserError):
    """Error for invalid settings.

    Attributes:
        faults: one message for each fault; most begin with the dotted name of a setting.
    """

    def __init__(self, where: str, faults: Sequence[str]):
        super().__init__(f"{where}: {' '.join(faults)}")
        self.faults = tuple(map(escaped, faults))


@dataclass(frozen=True)
class Section:
    """Base class of all settings classes; an instance converts and checks its fields.

    Integers given for floats become floats, lists become tuples and mappings become sections.

    Raises:
        SettingsError: fields are invalid. The message begins with the class name and lists all
            faults.
    """

    # A mapping that sets only this field can be written as plain text.
    shorthand: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        cls.__repr__ = Section.__repr__  # The decorator does not replace this method.

    def __repr__(self) -> str:
        """Returns the settings that differ from their defaults, without possibly private text."""
        changed = (
            f"{name}={value if isinstance(value, Section) else shown(value)}"
            for name, value in self._changed().items()
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """Returns the settings of `__repr__` as a table for notebooks."""
        return table(
            type(self).__name__, self._changed_texts(), "All settings have their defaults."
        )

    def _changed(self) -> dict[str, Any]:
        changed = {}
        for item in dataclasses.fields(self):
            value, made = getattr(self, item.name), item.default_factory
            if value != (item.default if made is dataclasses.MISSING else made()):
                changed[item.name] = value
        return changed

    def _changed_texts(self, prefix: str = "") -> dict[str, str]:
        texts: dict[str, str] = {}
        for name, value in self._changed().items():
            inner = isinstance(value, Section)
            name = f"{prefix}{name}"
            texts |= value._changed_texts(f"{name}.") if inner else {name: shown(value)}
        return texts

    def __post_init__(self) -> None:
        report = _Report()
        for item in dataclasses.fields(self):
            value = _field_value(type(self), item, getattr(self, item.name), item.name, report)
            object.__setattr__(self, item.name, value)
        faults = report.faults or self.cross_faults()
        if faults:
            raise SettingsError(type(self).__name__, faults)

    def cross_faults(self) -> list[str]:
        """Returns faults that concern several fields, each as "field: what is wrong"."""
        return []


def build(cls: type[S], raw: Any, *, where: str, faults: Sequence[str] = ()) -> S:
    """Builds a section from nested dicts.

    Args:
        cls: class of the section.
        raw: mapping from field names to values; None selects all defaults.
        where: origin of the settings, which error messages name.
        faults: faults found earlier, which the error also reports.

    Raises:
        SettingsError: a setting is invalid. The message lists all faults with their dotted names.
    """
    report = _Report(list(faults), tuple(dotted_names(cls)))
    section = _section(cls, raw, "", report)
    if report.faults:
        raise SettingsError(where, report.faults)
    return section


def dotted_names(cls: type[Section], prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all settings in a section.

    Sections in lists and mappings are included.
    """
    for item in dataclasses.fields(cls):
        name, hint = f"{prefix}{item.name}", hints(cls)[item.name]
        yield name
        inner = [hint, *typing.get_args(hint)]
        section = next((kind for kind in inner if dataclasses.is_dataclass(kind)), None)
        if section is not None:
            keys = item.metadata.get(KEYS)
            for entry in [name] if keys is None else [f"{name}.{key}" for key in keys]:
                yield from dotted_names(section, f"{entry}.")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested mappings by dotted name.

    Lists and empty mappings are treated as values.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # The integer is too large for a float.
        return False


# Each scalar type has a name in messages, a test of a value, and a conversion to the type.
_SCALARS: dict[type, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool), bool),
    int: ("an integer", _is_integer, int),
    float: ("a finite number", _is_number, float),
    str: ("text in quotes", lambda value: isinstance(value, str | os.PathLike), os.fspath),
}


def check_of(cls: type[Section], item: dataclasses.Field) -> Check | None:
    """Returns the condition on the value of a field, or None if the type is the only condition."""
    choices = literals(cls)[item.name]
    return one_of(*choices) if choices else item.metadata.get(CHECK)


@dataclass
class _Report:
    """Faults that are found while a section is built.

    Attributes:
        faults: messages.
        names: dotted names of all settings, which messages suggest for unknown names.
    """

    faults: list[str] = dataclasses.field(default_factory=list)
    names: tuple[str, ...] = ()

    def expected(self, name: str, noun: str, value: Any) -> None:
        self.faults.append(f"{name}: the value must be {noun}, but it is {shown(value)}.")

    def known_entries(
        self, raw: Mapping[str, Any], prefix: str, keys: Sequence[str]
    ) -> dict[str, Any]:
        """Returns the entries of `raw` whose key is in `keys`, and reports all other keys."""
        siblings = [f"{prefix}{key}" for key in keys]
        unknown = [key for key in raw if key not in keys]
        for key in unknown[:_MAX_UNKNOWN]:
            guess = nearest(f"{prefix}{key}", siblings) or nearest(str(key), self.names)
            name = prefix + key_name(key, list(raw))
            advice = offer(guess, keys)
            if name in self.names:
                advice = "In a file, write a section for each part of this name, without dots."
            self.faults.append(f"{name}: this setting is unknown. {advice}")
        if (more := len(unknown) - _MAX_UNKNOWN) > 0:
            self.faults.append(f"{more} further setting{'s are' if more > 1 else ' is'} unknown.")
        return {key: value for key, value in raw.items() if key in keys}


def _field_value(
    cls: type[Section], item: dataclasses.Field, value: Any, name: str, report: _Report
) -> Any:
    """Converts and checks the value of one field."""
    before = len(report.faults)
    value = _convert(hints(cls)[item.name], value, name, report, item.metadata.get(KEYS))
    check = check_of(cls, item)
    if check is not None and len(report.faults) == before:
        for entry_name, entry in _entries(name, value):
            if entry is not None and not check.holds(entry):
                report.expected(entry_name, check.expected, entry)
    convert = item.metadata.get(CONVERT)
    if convert is None or value is None or len(report.faults) > before:
        return value
    return convert(value)


def _entries(name: str, value: Any) -> list[tuple[str, Any]]:
    """Returns the dotted name and value of each entry of a list or mapping.

    Any other value is returned as the only entry.
    """
    if isinstance(value, dict):
        keys = list(value)
        return [(f"{name}.{key_name(key, keys)}", entry) for key, entry in value.items()]
    if isinstance(value, tuple):
        return [(f"{name}.{index}", entry) for index, entry in enumerate(value)]
    return [(name, value)]


def _convert(
    hint: Any, value: Any, name: str, report: _Report, keys: Sequence[str] | None = None
) -> Any:
    """Converts a value to the type `hint`; reports a fault if the value does not fit the type."""
    if hint is Any:
        return value
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):  # X | None is the only union in settings classes.
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
        if not all(isinstance(key, str) for key in value or ()):
            report.faults.append(f"{name}: a key is not text. Write the keys in quotes.")
            return None
        entries = report.known_entries(value or {}, f"{name}.", keys or list(value or {}))
        return {
            key: _convert(arguments[1], entry, f"{name}.{key_name(key, list(entries))}", report)
            for key, entry in entries.items()
        }
    if hint in _SCALARS:
        noun, fits, plain = _SCALARS[hint]
        if not fits(value):
            report.expected(name, noun, value)
        elif not is_text(str(value)):
            report.expected(name, "text without a NUL character and half surrogate pairs", value)
        else:
            return plain(value)
        return None
    return _section(hint, value, f"{name}.", report)


def _section(cls: type[Section], raw: Any, prefix: str, report: _Report) -> Any:
    """Builds a section from nested dicts; reports faults and returns None if `raw` is invalid.

    Args:
        prefix: dotted name of the section with a final dot; "" for the root.
    """
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
    except SettingsError as error:  # The error can only hold faults that concern several fields.
        report.faults.extend(f"{prefix}{fault}" for fault in error.faults)
        return None
