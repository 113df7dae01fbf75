"""A comparison with invented results, for tests that need no training."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import report_cases as cases

from pmc_jax.compare import collect
from pmc_jax.compare.runs import runs_of
from pmc_jax.config.compare import CompareConfig

# Each method has typical final values of unlearn quality, utility, leakage and number of steps.
ENDS = {
    "pmc": (80, 90, 0.3, 52),
    "npo": (88, 79, 0.45, 78),
    "simnpo": (84, 84, 0.5, 80),
    "gradient_difference": (93, 60, 0.2, 79),
    "idk": (90, 72, 0.6, 82),
    "retain_only": (47, 96, 0.85, 84),
}
RUN = {
    "model": {"path": "target"},
    "data": {
        "forget": "f.jsonl",
        "retain": "r.jsonl",
        "forget_answers": "f.jsonl",
        "evaluate": {"forget": "f.jsonl", "forget_paraphrased": "f.jsonl", "retain": "r.jsonl"},
    },
}


def config(folder: Path, **fields: Any) -> CompareConfig:
    """Returns settings with six methods and three seeds, in which two methods are searched."""
    rates = {"settings": {"train.learning_rate": [1e-5, 3e-5]}}
    methods = {name: rates if name in ("npo", "simnpo") else {} for name in ENDS}
    defaults = {
        "run": RUN,
        "max_seconds": 120,
        "at_seconds": [30, 60, 90],
        "seeds": [0, 1, 2],
        "methods": methods,
        "output": {"dir": str(folder)},
    }
    return CompareConfig(**(defaults | fields))


def comparison(
    folder: Path,
    *,
    reference: bool = True,
    failed: Sequence[str] = (),
    done: int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Writes the files of invented runs and returns the comparison that is collected from them.

    Args:
        folder: folder of the comparison.
        reference: whether the comparison has a reference model.
        failed: names of runs that failed.
        done: number of finished runs; None means that all runs are finished.
        **fields: changes to the settings that `config` returns.
    """
    compare, rng = config(folder, **fields), random.Random(0)
    runs = runs_of(compare)
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
        method = compare.method_of(run.entry)
        for name, content in _files_of_run(method, run.trial, reference, rng).items():
            (run.folder / name).write_text(json.dumps(content))
    evaluation = _evaluation(0.9, reference, rng)
    evaluation["models"].pop("after")
    for by_model in evaluation["measures"].values():
        by_model.pop("after")
    finished = [run for run in runs[:done] if run.name not in failed]
    return collect.collect(compare, runs, finished, dict.fromkeys(failed, "diverged"), evaluation)


def _evaluation(level: float, reference: bool, rng: random.Random) -> dict[str, Any]:
    evaluation = cases.evaluation_of(cases.REFERENCE if reference else None, 40, rng)
    wanted = {"quality", *collect.LIMITATIONS}
    evaluation["measures"] = {name: evaluation["measures"][name] for name in wanted}
    for measure in ("sampling", "prefill", "multiple_choice"):
        series = evaluation["measures"][measure]["after"]["series"]
        for name in {"worst", "true_score"} & series.keys():
            series[name] = [min(1.0, max(0.0, rng.gauss(level, 0.2))) for _ in range(40)]
    choices, text = (
        evaluation["measures"][name]["after"] for name in ("multiple_choice", "side_effects")
    )
    choices["series"]["rank"] = [round(40 * share) for share in (level, 0.1, 0.1, 0.1, 1 - level)]
    shift = round(10 * level)
    for name, heap in text["series"].items():
        text["series"][name] = [*(n // 8 for n in heap[shift:]), *[0] * shift]
        text["series"][name][20] += sum(heap) // 2
    evaluation["descriptions"] = {name: evaluation["descriptions"][name] for name in wanted}
    return evaluation


def _files_of_run(
    method: str, trial: int, reference: bool, rng: random.Random
) -> Mapping[str, Any]:
    quality, utility, level, steps = ENDS[method]
    quality, utility = quality + rng.gauss(0, 2) - 4 * trial, utility + rng.gauss(0, 2)
    recall = 1 - quality / 100
    after = cases.quality(recall, recall, *[utility / 100] * 3)
    rounds = [
        {
            "step": round(steps * share),
            "unlearning_seconds": 120 * share + rng.random(),
            "unlearn_quality": 40 + (quality - 40) * share**0.5,
            "utility": 88.6 + (utility - 88.6) * share**0.5 - 12 * share * (1 - share),
        }
        for share in (0.25, 0.5, 0.75)
    ]
    rounds.append({"step": steps})
    seconds = {"sample": 40.0, "score": 0.1, "train": 80.5, "evaluate": 9.0}
    seconds |= {"finetune": 0.0, "compile": 12.0, "other": 5.0, "total": 150.0}
    results = {
        "after": after,
        "seconds": seconds,
        "rounds": rounds,
        "stopped": "the limit method.max_seconds=120 is reached",
        "unlearning_seconds": 120.6 + rng.random(),
        "tokens": {"sampled": 49300 if method == "pmc" else 0, "trained": 1500 * steps},
        "devices": "1 x cpu",
        "versions": {"python": "3.11.7", "jax": "0.10.2", "pmc_jax": "0.1.0"},
    }
    return {"results.json": results, "evaluation.json": _evaluation(level, reference, rng)}
