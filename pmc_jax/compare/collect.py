"""Collects finished runs in the dictionary that becomes `compare.json`.

A run contains the numbers of one seed. An entry is a method with its chosen setting and contains
the numbers over all seeds. See docs/reference/comparison.md.
"""

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_files
from pmc_jax.artifacts.files import plain
from pmc_jax.compare import narrative
from pmc_jax.compare.runs import Run
from pmc_jax.compare.statistics import front, spread, spreads
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.method import TARGET_BASED
from pmc_jax.config.reading import read_json
from pmc_jax.evaluation.quality import HEADLINE, SPLITS, criterion
from pmc_jax.evaluation.tables import without_numbers

KIND, SCHEMA = "pmc_jax comparison", 1
# An entry that used more than this factor times the time limit is not among the best trade-offs.
TIME_FACTOR = 1.2
LIMITATIONS = ("side_effects", "multiple_choice", "sampling", "prefill")

# Figures draw only these series. The series of several seeds are concatenated or summed.
_CONCATENATED = ("worst", "true_score")
_ADDED = ("rank", "reference.forget", "reference.other", "before.forget", "before.other")

Row = dict[str, Any]  # a run in `compare.json`


def collect(
    compare: CompareConfig,
    runs: Sequence[Run],
    done: Sequence[Run],
    failed: Mapping[str, str],
    evaluation: Mapping[str, Any],
) -> dict[str, Any]:
    """Collects the results of a comparison so far.

    Args:
        compare: settings of the comparison.
        runs: all runs.
        done: runs that are finished and measured.
        failed: reason why training failed, by the name of the failed run.
        evaluation: the evaluation of the target model (`before`) and the reference model.

    Returns:
        The contents of `compare.json`.

    Raises:
        UserError: a file of a run cannot be read.
    """
    models = {"target": _model(evaluation, "before"), "reference": _model(evaluation, "reference")}
    rows, series = [], {}
    for run in done:
        row, series[run.name] = _row(run, models["reference"])
        rows.append(row)
    entries = [_entry(compare, name, rows, series) for name in compare.methods]
    for entry in entries:
        entry["marks"] = _marks(entry["values"], compare.max_seconds, models["target"])
    points = {
        e["name"]: tuple(e["values"][key]["mean"] for key in HEADLINE)
        for e in entries
        if e["values"] and not e["marks"]
    }
    first = read(done[0].folder / run_files.RESULTS) if done else {"devices": "", "versions": {}}
    comparison = {
        "kind": KIND,
        "schema": SCHEMA,
        "version": importlib.metadata.version("pmc_jax"),
        "complete": len(done) == len(runs),
        "num_runs": len(runs),
        "max_seconds": compare.max_seconds,
        "seeds": list(compare.seeds),
        "criterion": compare.search.criterion,
        "models": models,
        "entries": entries,
        "front": front(points),
        "paired": _paired(entries, rows),
        "runs": rows,
        "failed": dict(failed),
        "descriptions": evaluation["descriptions"],
        "not_computed": evaluation["not_computed"] | without_numbers(evaluation),
        "evaluation": evaluation["settings"],
        "settings": dataclasses.asdict(compare),
        "devices": first["devices"],
        "versions": first["versions"],
    }
    return plain(comparison | {"limits": narrative.limits(comparison)})


def _marks(
    values: Mapping[str, Any], max_seconds: float, target: Mapping[str, Any] | None
) -> list[str]:
    """Returns the keys of `narrative.MARKS` that exclude an entry from the best trade-offs."""
    marks = []
    if values and _is_over_time(values["seconds"]["mean"], max_seconds):
        marks.append("over_time")
    if values and target is not None:
        before = target["values"]["unlearn_quality"]
        if round(values["unlearn_quality"]["mean"] - before, 1) <= 0:
            marks.append("forgot_nothing")
    return marks


def _is_over_time(seconds: float, max_seconds: float) -> bool:
    return seconds > TIME_FACTOR * max_seconds


def read(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a run.

    Raises:
        UserError: the file cannot be read or does not contain a JSON object.
    """
    return read_json(path, hint="Remove the folder of this run to repeat the run.")


def _model(evaluation: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Returns the numbers and the series of the target model or the reference model.

    The result is None if this model is missing.
    """
    if key not in evaluation["models"]:
        return None
    values = evaluation["measures"]["quality"][key]["values"]
    measures, series = _measures(evaluation, key)
    return {
        **{name: evaluation["models"][key][name] for name in ("path", "sha256")},
        "values": {name: values[name] for name in (*HEADLINE, *SPLITS) if name in values},
        "measures": measures,
        "series": series,
    }


def _measures(
    evaluation: Mapping[str, Any], model: str
) -> tuple[dict[str, Mapping[str, float]], dict[str, Any]]:
    """Returns the values and the series of one model.

    The first result maps each measure except quality to its values. The second result maps each
    measure in `LIMITATIONS` to its series.
    """
    results = {name: by_model[model] for name, by_model in evaluation["measures"].items()}
    return (
        {name: one["values"] for name, one in results.items() if name != "quality"},
        {name: one["series"] for name, one in results.items() if name in LIMITATIONS},
    )


def _row(run: Run, reference: Mapping[str, Any] | None) -> tuple[Row, dict[str, Any]]:
    """Returns the numbers of a run and its series for figures."""
    results = read(run.folder / run_files.RESULTS)
    evaluation = read(run.folder / run_files.EVALUATION_RESULTS)
    after, rounds, seconds = results["after"], results["rounds"], results["unlearning_seconds"]
    headline = {key: after[key] for key in HEADLINE}
    values = headline | {name: split["rougeL_recall"] for name, split in after["splits"].items()}
    if reference is not None:
        level = reference["values"]["unlearn_quality"]
        values["above_reference"] = after["unlearn_quality"] - level
    values |= {
        "seconds": seconds,
        "steps": rounds[-1]["step"] if rounds else 0,
        "sampled_tokens": results["tokens"]["sampled"],
        "trained_tokens": results["tokens"]["trained"],
    }
    on_the_way = [
        {"seconds": one["unlearning_seconds"]} | {key: one[key] for key in HEADLINE}
        for one in rounds
        if one.get("unlearning_seconds") is not None and one.get("unlearn_quality") is not None
    ]
    measures, series = _measures(evaluation, "after")
    row = {
        **{key: getattr(run, key) for key in ("name", "entry", "trial", "seed")},
        "setting": dict(run.setting),
        "values": values,
        "curve": [*on_the_way, {"seconds": seconds} | headline],
        "measures": measures,
        "stopped": results["stopped"],
        "total_seconds": results["seconds"]["total"],
    }
    return row, series


def _entry(
    compare: CompareConfig, name: str, rows: Sequence[Row], series: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the entry of a method, with the numbers of its chosen setting."""
    method = compare.method_of(name)
    settings = compare.trials_of(name)
    by_trial = [
        [row for row in rows if (row["entry"], row["trial"]) == (name, number)]
        for number in range(len(settings))
    ]
    trials = [
        _trial(compare, setting, of_trial)
        for setting, of_trial in zip(settings, by_trial, strict=True)
    ]

    def rank(i: int) -> tuple[int, bool, float, int]:
        # A setting that failed for some seeds ranks below every setting with more finished runs,
        # and a setting over the time limit below those within it.
        return trials[i]["n"], not trials[i]["over_time"], trials[i]["score"] or 0.0, -i

    chosen = max(range(len(trials)), key=rank)
    own = by_trial[chosen]
    return {
        "name": name,
        "method": method,
        "label": narrative.label(name, method),
        "sees_answers": method in TARGET_BASED,
        "space": compare.methods[name].space,
        "trials": trials,
        "chosen": chosen,
        "runs": [row["name"] for row in own],
        "values": spreads([row["values"] for row in own]),
        "measures": {
            measure: spreads([row["measures"][measure] for row in own])
            for measure in (own[0]["measures"] if own else ())
        },
        "series": _pooled([series[row["name"]] for row in own]),
        "curve": _curve(compare.at_seconds, [row["curve"] for row in own]),
    }


def _trial(
    compare: CompareConfig, setting: Mapping[str, Any], rows: Sequence[Row]
) -> dict[str, Any]:
    """Returns a setting with its number of runs, search score, use of time and values."""
    values = [{key: row["values"][key] for key in HEADLINE} for row in rows]
    mean = spread(criterion(compare.search.criterion, *one.values()) for one in values)
    seconds = spread(row["values"]["seconds"] for row in rows)
    return {
        "setting": dict(setting),
        "n": len(rows),
        "score": mean and mean["mean"],
        "over_time": bool(seconds) and _is_over_time(seconds["mean"], compare.max_seconds),
        "values": spreads(values),
    }


def _pooled(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Pools the series of several seeds and returns measure -> name -> series.

    Lists of single values are concatenated, and histograms are added.
    """
    pooled: dict[str, dict[str, list[float]]] = {}
    for measure, series in runs[0].items() if runs else ():
        for name in series:
            lists = [run[measure][name] for run in runs if name in run[measure]]
            if name in _CONCATENATED:
                pooled.setdefault(measure, {})[name] = [value for one in lists for value in one]
            elif name in _ADDED:
                sums = [sum(values) for values in zip(*lists, strict=True)]
                pooled.setdefault(measure, {})[name] = sums
    return pooled


def _curve(
    times: Sequence[float], curves: Sequence[Sequence[Mapping[str, float]]]
) -> list[dict[str, Any]]:
    """Returns the spread over seeds at each point of the curves.

    The points are the first measurement after each time in `times`, and the last measurement.
    """
    points = [
        [next((p for p in curve[:-1] if p["seconds"] >= time), {}) for curve in curves]
        for time in times
    ]
    points.append([curve[-1] for curve in curves])
    return [point for point in map(spreads, points) if point]


def _paired(entries: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns the spread over seeds of the differences between PMC and every other entry.

    A difference between runs of the same seed cancels the variation that both runs share. Entries
    with fewer than two such differences are left out.
    """
    by_seed = {
        entry["name"]: {row["seed"]: row["values"] for row in rows if row["name"] in entry["runs"]}
        for entry in entries
    }
    first = next((entry["name"] for entry in entries if entry["method"] == "pmc"), None)
    own, pairs = by_seed.pop(first, {}), []
    for other, values in by_seed.items():
        seeds = [seed for seed in own if seed in values]
        differences = [{key: own[s][key] - values[s][key] for key in HEADLINE} for s in seeds]
        if len(differences) > 1:
            pairs.append({"entry": first, "less": other, "values": spreads(differences)})
    return pairs
