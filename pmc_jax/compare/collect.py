"""The finished runs of a comparison -> the dictionary that `compare.json` holds
(docs/compare.md).

Runs hold numbers of one seed; entries those of the setting that was chosen, over the seeds.
"""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.artifacts import run_folder
from pmc_jax.artifacts.files import plain
from pmc_jax.compare import narrative
from pmc_jax.compare.runs import Run
from pmc_jax.compare.statistics import front, score, spread, spreads
from pmc_jax.config.compare import CompareConfig
from pmc_jax.config.method import TARGET_BASED
from pmc_jax.config.run import to_dict
from pmc_jax.errors import UserError
from pmc_jax.evaluation.quality import SPLITS

KIND, SCHEMA = "pmc_jax comparison", 1
LIMITATIONS = ("side_effects", "multiple_choice", "sampling", "prefill")

_HEADLINE = ("unlearn_quality", "utility")
# Series of several seeds: one after the other, or added up. Others are not drawn.
_JOINED = ("worst", "true_score")
_ADDED = ("rank", "reference.forget", "reference.other", "before.forget", "before.other")


def collect(
    compare: CompareConfig,
    runs: Sequence[Run],
    done: Sequence[Run],
    failed: Mapping[str, str],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """The comparison as far as it has come.

    Args:
        runs: all of them.
        done: those that are finished and measured.
        failed: name of a run -> why it trained no more.
        found: evaluation of the target (`before`) and the reference.

    Returns:
        What `compare.json` holds.

    Raises:
        UserError: a file of a run is damaged.
    """
    models = {
        name: _model(found, key) for name, key in (("target", "before"), ("reference", "reference"))
    }
    read_runs = [_run(run, models) for run in done]
    rows = [row for row, _ in read_runs]
    series = {row["name"]: drawn for row, drawn in read_runs}
    entries = [_entry(compare, name, rows, series) for name in compare.methods]
    points = {
        e["name"]: tuple(e["values"][key]["mean"] for key in _HEADLINE)
        for e in entries
        if e["values"]
    }
    first = _machine(done)
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
        "descriptions": found["descriptions"],
        "not_computed": found["not_computed"],
        "evaluation": found["settings"],
        "settings": to_dict(compare),
        **first,
    }
    return plain(comparison | {"limits": narrative.limits(comparison)})


def _machine(done: Sequence[Run]) -> dict[str, Any]:
    """`devices` and `versions` of the first run; empty where none is finished."""
    if not done:
        return {"devices": "", "versions": {}}
    results = read(done[0].folder / run_folder.RESULTS)
    return {"devices": results["devices"], "versions": results["versions"]}


def read(path: Path) -> dict[str, Any]:
    """A file of a run.

    Raises:
        UserError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); remove the folder of this run to run it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no JSON object; remove the folder of this run")
    return content


def _model(found: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Numbers and series of the target or the reference."""
    if key not in found["models"]:
        return None
    measures = {name: by_model[key] for name, by_model in found["measures"].items()}
    values = measures.pop("quality")["values"]
    return {
        "path": found["models"][key]["path"],
        "sha256": found["models"][key]["sha256"],
        "values": {name: values[name] for name in (*_HEADLINE, *SPLITS) if name in values},
        "measures": {name: one["values"] for name, one in measures.items()},
        "series": {name: one["series"] for name, one in measures.items() if name in LIMITATIONS},
    }


def _run(run: Run, models: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers of a run, and what plots draw of it."""
    results = read(run.folder / run_folder.RESULTS)
    evaluation = read(run.folder / run_folder.EVALUATION_RESULTS)
    after, rounds, reference = results["after"], results["rounds"], models["reference"]
    spent = results["unlearning_seconds"]
    values = {key: after[key] for key in _HEADLINE}
    values |= {name: split["rougeL_recall"] for name, split in after["splits"].items()}
    if reference is not None:
        values["above_reference"] = (
            after["unlearn_quality"] - reference["values"]["unlearn_quality"]
        )
    values |= {
        "seconds": spent,
        "steps": rounds[-1]["step"] if rounds else 0,
        "sampled_tokens": results["tokens"]["sampled"],
        "trained_tokens": results["tokens"]["trained"],
    }
    way = [
        {"seconds": one["unlearning_seconds"]} | {key: one[key] for key in _HEADLINE}
        for one in rounds
        if one.get("unlearning_seconds") is not None and one.get("unlearn_quality") is not None
    ]
    measures = {
        name: by_model["after"]
        for name, by_model in evaluation["measures"].items()
        if name != "quality"
    }
    row = {
        "name": run.name,
        "entry": run.entry,
        "trial": run.trial,
        "setting": dict(run.setting),
        "seed": run.seed,
        "values": values,
        "curve": [*way, {"seconds": spent} | {key: after[key] for key in _HEADLINE}],
        "measures": {name: one["values"] for name, one in measures.items()},
        "stopped": results["stopped"],
        "total_seconds": results["seconds"]["total"],
    }
    return row, {name: one["series"] for name, one in measures.items() if name in LIMITATIONS}


def _entry(
    compare: CompareConfig, name: str, rows: Sequence[Mapping[str, Any]], series: Mapping[str, Any]
) -> dict[str, Any]:
    """A method by the setting that was chosen for it."""
    method = compare.method_of(name)
    tried = compare.trials_of(name)
    trials = [
        _trial(compare.search.criterion, setting, [r for r in _of(rows, name) if r["trial"] == i])
        for i, setting in enumerate(tried)
    ]
    # A setting that failed for some seeds is not chosen before one that did not.
    chosen = max(range(len(trials)), key=lambda i: (trials[i]["n"], trials[i]["score"] or 0.0, -i))
    own = [row for row in _of(rows, name) if row["trial"] == chosen]
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


def _of(rows: Sequence[Mapping[str, Any]], entry: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["entry"] == entry]


def _trial(
    criterion: str, setting: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What came of one setting."""
    scores = [score(criterion, *(row["values"][key] for key in _HEADLINE)) for row in rows]
    mean = spread(scores)
    return {
        "setting": dict(setting),
        "n": len(rows),
        "score": mean and mean["mean"],
        "values": spreads([{key: row["values"][key] for key in _HEADLINE} for row in rows]),
    }


def _pooled(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Measure -> name -> series of all seeds together."""
    pooled: dict[str, dict[str, list[float]]] = {}
    for measure in runs[0] if runs else ():
        names = [name for name in runs[0][measure] if name in _JOINED + _ADDED]
        for name in names:
            lists = [run[measure][name] for run in runs if name in run[measure]]
            joined = [value for one in lists for value in one]
            added = [sum(values) for values in zip(*lists, strict=True)] if name in _ADDED else []
            pooled.setdefault(measure, {})[name] = joined if name in _JOINED else added
    return pooled


def _curve(
    times: Sequence[float], curves: Sequence[Sequence[Mapping[str, float]]]
) -> list[dict[str, Any]]:
    """Points over the seeds: the first measurement after each of the times, and the end."""
    if not curves:
        return []
    points = [
        [next((p for p in curve[:-1] if p["seconds"] >= time), {}) for curve in curves]
        for time in times
    ]
    points.append([curve[-1] for curve in curves])
    return [found for some in points if (found := spreads(some))]


def _paired(
    entries: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """PMC less every other entry, seed by seed: a difference that seeds share is not spread."""
    first = next((e for e in entries if e["method"] == "pmc"), None)
    by_name = {row["name"]: row for row in rows}

    def by_seed(entry: Mapping[str, Any]) -> dict[int, Mapping[str, float]]:
        return {by_name[name]["seed"]: by_name[name]["values"] for name in entry["runs"]}

    found = []
    for other in entries if first is not None else ():
        own, its = by_seed(first), by_seed(other)
        seeds = [seed for seed in own if seed in its]
        if other is not first and len(seeds) > 1:
            less = [{k: own[s][k] - its[s][k] for k in _HEADLINE} for s in seeds]
            found.append({"entry": first["name"], "less": other["name"], "values": spreads(less)})
    return found
