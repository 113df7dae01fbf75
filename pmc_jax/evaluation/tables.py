"""Formats the numbers of an evaluation as text tables."""

from collections.abc import Collection, Mapping
from typing import Any

from pmc_jax.artifacts.log import table
from pmc_jax.evaluation.quality import SPLITS, of_recalls

MODELS = ("before", "after", "reference")


def headline(evaluation: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Returns unlearn quality, utility and their parts of one model (see `quality.of_recalls`)."""
    values = evaluation["measures"]["quality"][model]["values"]
    return of_recalls({name: values[name] for name in SPLITS if name in values})


def tables(evaluation: Mapping[str, Any]) -> str:
    """Formats all numbers of an evaluation as text.

    Each measure has a table with one column per model. Numbers that are missing are listed with
    the reason.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    models = [name for name in MODELS if name in evaluation["models"]]
    titles = models if "before" in models else ["value", *models[1:]]
    parts = []
    for measure, by_model in evaluation["measures"].items():
        names = list(dict.fromkeys(n for m in models for n in by_model[m]["values"]))
        rows = [[name, *(by_model[m]["values"].get(name) for m in models)] for name in names]
        if rows:
            parts.append(table(rows, (measure, *titles)))
        reasons: dict[str, dict[str, None]] = {}  # reason -> names
        for model in models:
            for name, reason in by_model[model]["missing"].items():
                reasons.setdefault(reason, {})[name] = None
        parts += [
            f"{measure}: {', '.join(_without_parts(names))} cannot be computed: {reason}"
            for reason, names in reasons.items()
        ]
    parts += [
        f"{name} cannot be computed: {why}" for name, why in evaluation["not_computed"].items()
    ]
    return "\n\n".join(parts)


def without_numbers(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Returns measure -> reason for each measure that has no number for any model.

    Args:
        evaluation: contents of `evaluation.json`, or {}.
    """
    found = {}
    for measure, by_model in evaluation.get("measures", {}).items():
        if not any(one["values"] for one in by_model.values()):
            reasons = (reason for one in by_model.values() for reason in one["missing"].values())
            found[measure] = "; ".join(dict.fromkeys(reasons))
    return found


def _without_parts(names: Collection[str]) -> list[str]:
    """Returns the names without those that extend another name, as "A.low" extends "A"."""
    return [n for n in names if not any(n.startswith(f"{other}.") for other in names)]
