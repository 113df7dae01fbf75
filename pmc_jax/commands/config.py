"""Prints the settings of a run or a comparison as YAML, with the origin of each value.

The origin is a line of a file, an override or the default. If a setting is invalid, the command
prints each fault on its own line and ends with exit status 2. `pmc COMMAND --help` describes the
settings that a command reads.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pmc_jax.commands import start
from pmc_jax.config import shipped
from pmc_jax.config.compare import load_compare
from pmc_jax.config.loader import apply_overrides, line_numbers, read_settings
from pmc_jax.config.run import config_from_dict, load_config
from pmc_jax.config.schema import SettingsError, flatten

READS = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, changed="print only the settings that the file or an override sets")


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    path, overrides = shipped.find(options.config), options.overrides
    raw, lines = read_settings(path), line_numbers(path)
    load = load_compare if "methods" in raw else load_config
    if load is load_compare and isinstance(raw.get("run"), str):
        file = shipped.find(raw["run"], folder=path.parent)
        raw["run"] = read_settings(file)
        lines |= line_numbers(file, "run")
    try:
        settings = dataclasses.asdict(load(path, overrides))
    except SettingsError as error:
        for fault in error.faults:
            where = "" if fault.startswith("override ") else _origin(fault, lines, overrides) + ": "
            print(f"pmc: error: {where}{fault}", file=sys.stderr)
        return 2
    if load is load_compare:
        settings["run"] = dataclasses.asdict(config_from_dict(settings["run"]))
    written = flatten(apply_overrides(raw, overrides)[0])
    # In the file, a string in place of a source is the path of the source.
    origins = {
        name: _origin(name, lines, overrides)
        for name in flatten(settings)
        if isinstance(written.get(name.removesuffix(".path")), str)
        or any(f"{other}.".startswith(f"{name}.") for other in written)
    }
    for line in _yaml(settings, origins, "" if options.changed else "default"):
        say(line)
    return 0


def _origin(text: str, lines: Mapping[str, str], overrides: Sequence[str]) -> str:
    """Returns the origin of the setting whose dotted name is at the start of `text`."""
    name = text.partition(":")[0]
    changed = [f"{override.partition('=')[0].strip()}." for override in overrides]
    if any(f"{name}.".startswith(other) or other.startswith(f"{name}.") for other in changed):
        return "override"
    while name not in lines:
        name = name.rpartition(".")[0]
    return lines[name]


def _yaml(
    tree: Mapping[str, Any], origins: Mapping[str, str], other: str, prefix: str = ""
) -> Iterator[str]:
    """Yields YAML lines with the origin of each value.

    A value that is not in `origins` has the origin `other`, and is omitted if `other` is "".
    """
    indent = "  " * prefix.count(".")
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if value and isinstance(value, dict):
            lines = list(_yaml(value, origins, other, f"{name}."))
            yield from [f"{indent}{key}:", *lines] if lines else ()
        elif origin := origins.get(name, other):
            text = f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}"
            yield f"{text:40}  # {origin}"
