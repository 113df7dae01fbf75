"""Describes the settings in which two runs differ."""

import json
from collections.abc import Mapping
from typing import Any

from pmc_jax.config.schema import flatten
from pmc_jax.config.wording import is_word, shown


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Returns a text for each value that differs, such as "seed was 15 and is now 20".

    Args:
        recorded: nested mapping with the earlier values.
        wanted: nested mapping with the present values.
    """
    old, new = flatten(recorded), flatten(wanted)
    # JSON text distinguishes 1 from true, and the settings digest is a hash of the same text.
    old_text, new_text = (
        {name: json.dumps(value, sort_keys=True) for name, value in flat.items()}
        for flat in (old, new)
    )
    return [
        f"{name} was {_brief(old, name)} and is now {_brief(new, name)}"
        for name in dict.fromkeys([*old, *new])
        if old_text.get(name) != new_text.get(name)
    ]


def _brief(flat: Mapping[str, Any], name: str) -> str:
    """Returns the JSON text of one value, or only its kind or length if it may be private text."""
    if name not in flat:
        return "absent"
    value = flat[name]
    for entry in value if isinstance(value, list | tuple) else [value]:
        if isinstance(entry, Mapping | list | tuple):
            return shown(value)
        if isinstance(entry, str) and not is_word(entry):
            return shown(value)
    return json.dumps(value)
