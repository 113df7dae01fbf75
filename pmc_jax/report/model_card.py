"""Writes the model card of an exported model: `README.md` in its folder, for the Hugging Face Hub.

The card holds numbers, names of settings and digests, but no question, no answer and no path. If
the export has copied a card of the source model, that card stays as `SOURCE_README.md`.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.files import json_text, write_text
from pmc_jax.config.evaluate import LEVELS
from pmc_jax.config.public import public_settings
from pmc_jax.config.reading import read_text
from pmc_jax.config.run import Config
from pmc_jax.errors import UserError, system_errors
from pmc_jax.models.gguf import GGUFFile
from pmc_jax.report.methods import LABELS
from pmc_jax.report.texts import TEXTS

CARD, SOURCE_CARD = "README.md", "SOURCE_README.md"
_TEXTS: dict[str, Any] = TEXTS["model_card"]
_LICENCE = ("license", "license_name", "license_link")


def write(
    folder: Path,
    config: Config,
    source: Mapping[str, str],
    step: int,
    results: Mapping[str, Any] | None,
) -> None:
    """Writes the model card of an exported model.

    Args:
        folder: folder of the model.
        config: settings of the run.
        source: `path` of the source model on this machine, "" if it is not known, and its digest
            `sha256`.
        step: step of the weights.
        results: contents of results.json; None if the weights are not the result of the run.

    Raises:
        UserError: the card cannot be written.
    """
    card = folder / CARD
    if card.exists():  # The export has copied it from the source model.
        with system_errors(f"{card}: the file cannot be renamed", "Check the disk."):
            card.replace(folder / SOURCE_CARD)
    name = config.model.path or ""
    is_hub_name = f"models--{name.replace('/', '--')}" in Path(source["path"]).parts
    front = {
        **({"base_model": name, "base_model_relation": "finetune"} if is_hub_name else {}),
        **_licence(source["path"]),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["unlearning", "machine-unlearning", "pmc_jax", config.method.name],
    }
    base = name if is_hub_name or name.startswith("package:") else _TEXTS["local"]
    values = {
        "base": base,
        "sha256": source["sha256"],
        "method": LABELS[config.method.name],
        "version": importlib.metadata.version("pmc_jax"),
        "step": step,
    }
    parts = [_TEXTS["title"], _TEXTS["origin"].format(**values)]
    if results is None:
        parts.append(_TEXTS["partial"].format(**values))
    else:
        parts += [_TEXTS["figures"], _figures(results), _TEXTS["limits"]]
    parts += [_TEXTS["settings"], _settings(config)]
    if results is not None:
        digest = hashlib.sha256(json_text(results).encode()).hexdigest()
        parts.append(_TEXTS["verify"].format(results=run_files.RESULTS, sha256=digest))
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    write_text(card, f"---\n{header}---\n\n" + "\n\n".join(part.strip() for part in parts) + "\n")


def _licence(path: str) -> dict[str, str]:
    """Returns the licence that a model folder or a GGUF file states, as fields of a model card."""
    if not path:
        return {}
    try:
        if path.endswith(".gguf"):
            stated = {"license": GGUFFile(path).get("general.license", str)}
        else:
            _, front, _ = read_text(Path(path) / CARD).split("---", 2)
            stated = yaml.safe_load(front)
        found = {name: stated.get(name) for name in _LICENCE}
    except (OSError, UserError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        return {}  # Nothing is stated, or not in the form of a model card.
    return {n: v for n, v in found.items() if isinstance(v, str) and v.isprintable()}


def _figures(results: Mapping[str, Any]) -> str:
    """Returns the numbers before and after unlearning as a table in Markdown."""
    forgotten, heldout, rows = results["forgotten"], results["heldout"], []
    count = forgotten["questions"]
    for level in LEVELS:
        if (told := forgotten[level]) is not None:
            meaning = _TEXTS["levels"][level].format(samples=forgotten["samples"])
            rows.append((meaning, "", f"{count - told} of {count}"))
    for name in ("unlearn_quality", "utility"):
        before, after = results["before"][name], results["after"][name]
        if None not in (before, after):
            rows.append((TEXTS["quality"][name]["name"], f"{before:.1f}", f"{after:.1f}"))
    if heldout["after"] is not None:
        ends = (f"{100 * heldout[moment]:.1f} %" for moment in ("before", "after"))
        rows.append((_TEXTS["heldout"].format(rows=heldout["rows"]), *ends))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(["| | before | after |", "|-|-|-|", *lines])


def _settings(config: Config) -> str:
    """Returns the public settings that differ from the defaults, and the seed, as a list."""
    usual = public_settings(Config())
    lines = [
        f"- `{name}`: {json.dumps(value)}"
        for name, value in public_settings(config).items()
        if value != usual.get(name) or name == "seed"
    ]
    return "\n".join(lines)
