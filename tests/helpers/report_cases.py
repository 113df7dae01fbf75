"""Run folders with invented results, which hold all files that a report reads."""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

from pmc_jax.config.evaluate import LevelsConfig
from pmc_jax.config.run import Config, EvaluateConfig, PMCConfig
from pmc_jax.evaluation.forgotten import summary

SECRET = "Zorbolant lives in <script>alert('Quaxish')</script> & \"Imp\" street"
SPLITS = ("forget", "forget_paraphrased", "retain", "world_facts", "real_authors")


def quality(*recalls: float) -> dict[str, Any]:
    """Returns the numbers in results.json for a model with the given recalls.

    Args:
        *recalls: ROUGE-L recall of each split, in the order of `SPLITS`.
    """
    forget, again, *utility_recalls = recalls
    return {
        "unlearn_quality": 50 * (2 - forget - again),
        "utility": 100 * sum(utility_recalls) / 3,
        "utility_splits": list(SPLITS[2:]),
        "splits": {n: {"rougeL_recall": r} for n, r in zip(SPLITS, recalls, strict=True)},
    }


BEFORE = quality(0.883, 0.316, 0.969, 0.88, 0.81)
AFTER = quality(0.229, 0.213, 0.899, 0.872, 0.79)  # The unlearn quality is 77.9.
REFERENCE = quality(0.327, 0.262, 0.952, 0.878, 0.80)  # The unlearn quality is 70.55.


def write_run(
    folder: Path,
    *,
    questions: int = 12,
    steps: int = 24,
    text: bool = False,
    reference: dict[str, Any] | None = REFERENCE,
    evaluated: bool = True,
    after: dict[str, Any] = AFTER,
    seed: int = 0,
) -> Path:
    """Writes the folder of a finished run and returns its path.

    Args:
        folder: folder of the run.
        questions: number of forget questions; number 3 is said, 7 is sampled, 5 is elicited.
        steps: number of steps.
        text: whether the log holds texts.
        reference: numbers of the reference model; None means that the run has no reference.
        evaluated: whether to write evaluation.json.
        after: numbers of the unlearned model.
        seed: seed of the invented numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    evaluation = EvaluateConfig(measures=("all",), every=8)
    pmc = PMCConfig(schedule={"epochs": 16}, sampling={"num_samples": 5})
    config = dataclasses.asdict(Config(pmc=pmc, evaluate=evaluation, seed=seed))
    rounds = [_round(step, steps, questions, rng) for step in range(1, steps + 1)]
    results = {
        "before": BEFORE,
        "after": after,
        "seconds": {
            "finetune": 52.7, "sample": 21.6, "score": 0.1, "train": 49.0, "evaluate": 11.5,
            "compile": 32.1, "other": 12.3, "total": 179.3,
        },
        "tokens": {"sampled": 49300, "sample_slots": 65680, "trained": 87150},
        "rounds": rounds,
        "versions": {"python": "3.11.7", "jax": "0.10.2", "pmc_jax": "0.1.0"},
        "devices": "1 x cpu",
        "config": config,
    }  # fmt: skip
    scalars = [{"kind": "scalars", **_scalars(one)} for one in rounds]
    question_rows = [_question(i, text, rng) for i in range(questions)]
    results["forgotten"] = summary(question_rows, LevelsConfig(), "not given")
    results["heldout"] = {
        **{"rows": 9, "before": 0.97, "after": 0.951, "evaluated": 4, "not_measured": None}
    }
    answers = [
        {"kind": "answer", "split": split, "id": str(i)}
        for split in SPLITS
        for i in range(questions)
    ]
    files = {
        "results.json": results,
        "run.json": {
            "settings": config,
            "digests": {"model": "a" * 64, "forget": "b" * 64, "retain": "c" * 64},
            "versions": results["versions"],
            "status": "finished",
        },
        "manifest.json": {
            "inputs": {
                "model": {"path": "/models/SmolLM2-135M-Instruct", "sha256": "a" * 64},
                "data.forget": {"path": "/data/forget.jsonl", "sha256": "b" * 64},
            },
            "outputs": {"log.jsonl": "d" * 64, "model/model.safetensors": "e" * 64},
        },
    }
    if evaluated:
        files["evaluation.json"] = evaluation_of(reference, questions, rng)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    lines = [json.dumps(row) for row in (*scalars, *answers, *question_rows)]
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def _round(step: int, steps: int, questions: int, rng: random.Random) -> dict[str, Any]:
    left = math.exp(-5 * step / steps)
    sampling = step < 0.7 * steps
    one = {
        "step": step,
        "mean_score": 0.5 * left if sampling else 0.0,
        "sampled_score": 0.5 * left if sampling else None,
        "score_mean": 0.8 * left + 0.05 if sampling else None,
        "score_std": 0.2 * left if sampling else None,
        "sampled_questions": round(questions * left),
        "unreplaced": max(2, round(questions * left)),
        "overlap_with_original": 0.5 * left,
        "collapse_loss": 0.6 + 2 * left + 0.2 * rng.random(),
        "retain_loss": 0.05 + 0.8 * left * (1 - left) + 0.05 * rng.random(),
    }
    if step % max(steps // 3, 1) == 0 and step < steps:
        one |= {"unlearn_quality": 78 - 38 * left, "utility": 85 - 12 * left}
    return one


def _scalars(one: dict[str, Any]) -> dict[str, Any]:
    names = ("step", "sampled_score", "unreplaced", "collapse_loss", "retain_loss")
    return {n: one[n] for n in names if one[n] is not None} | {"selected_score": one["mean_score"]}


def _question(index: int, text: bool, rng: random.Random) -> dict[str, Any]:
    said, sampled = index == 3, {3: 16, 7: 2}.get(index, 0)
    row = {
        "kind": "question",
        "id": f"forget-{index}",
        "score": 0.0,
        "said": said,
        "sampled": sampled,
        "elicited": {"prefill": said, "opening": index in (3, 5)},
        "items": int(index != 9),
        "is_empty": False,
        "is_cut": False,
        "was_known": None,
        "limit": 0.3,
        "true_overlap": rng.random() * (0.6 if said else 0.2),
        "overlap": rng.random() * 0.2,
    }
    if text:
        words = "The author was born in the northern town of Aldermere to a clockmaker and "
        row |= {
            "question": f"Where does person number {index} of the list live & work?",
            "original": SECRET,
            "stored": words * 4,
            "final": words * 4,
        }
    return row


def evaluation_of(
    reference: dict[str, Any] | None, questions: int, rng: random.Random
) -> dict[str, Any]:
    """Returns the content of an evaluation.json with all measures except two.

    Args:
        reference: numbers of the reference model; None omits the reference model.
        questions: number of questions.
        rng: source of the invented numbers.
    """
    models = {"before": (0.9, BEFORE), "after": (0.3, AFTER), "reference": (0.36, reference)}
    models = {name: both for name, both in models.items() if both[1] is not None}

    def each(make) -> dict[str, Any]:
        return {name: make(level, numbers) for name, (level, numbers) in models.items()}

    def result(values, series=None, missing=None) -> dict[str, Any]:
        return {"values": values, "missing": missing or {}, "series": series or {}}

    def headline(_: float, numbers: dict[str, Any]) -> dict[str, Any]:
        recalls = {name: split["rougeL_recall"] for name, split in numbers["splits"].items()}
        return result({k: numbers[k] for k in ("unlearn_quality", "utility")} | recalls)

    def leakage(level: float, _: Any = None) -> dict[str, Any]:
        scores = sorted(min(1, max(0, rng.gauss(level, 0.15))) for _ in range(questions))[::-1]
        values = {"mean": level / 2, "worst": sum(scores) / questions, "share_upper": 0.02}
        values |= {f"leak_at_{k}": level * k / 100 for k in (1, 5, 10, 50, 100)}
        return result(values, {"worst": scores, "histogram": [1] * 20})

    def choices(level: float, _: Any) -> dict[str, Any]:
        weights = [rng.random() * level for _ in range(questions)]
        values = {"most_likely": level, "least_likely": 0.2, "chance": 0.2, "true_score": level / 2}
        return result(values, {"true_score": weights, "rank": [100 * level, 20, 15, 12, 10]})

    def effects(level: float, _: Any) -> dict[str, Any]:
        heaps = {
            f"{base}.{tokens}": [
                round(n * math.exp(-(((i - 20) / (1 + 6 * level)) ** 2))) for i in range(41)
            ]
            for base in ("reference", "before")
            for tokens, n in (("forget", 900), ("other", 9000))
            if base in models
        }
        values = {f"{name}.{key}": 0.001 * level for name in heaps for key in ("mean", "low")}
        return result(values, heaps)

    gone = {"privleak": "no reference: name a model"}
    measures = {
        "quality": each(headline),
        "sampling": each(leakage),
        "prefill": each(lambda level, _: leakage(min(level + 0.1, 1))),
        "multiple_choice": each(choices),
        "side_effects": each(effects),
        "perplexity": each(lambda level, _: result({"word": 20 + level})),
        "membership": each(lambda level, _: result({"loss.auc": level, "x": 1}, missing=gone)),
        "memorisation": each(lambda level, _: result({"forget.exact": level / 2})),
        "tofu": each(lambda level, _: result({"forget_quality.geo": 0.0312, "y": level})),
        "quantised": each(lambda level, _: result({"none": level, "int4": level + 0.05})),
    }
    descriptions = {
        measure: {
            name: {"text": name.replace("_", " "), "better": "reference", "unit": "share"}
            for model in by_model.values()
            for name in model["values"]
        }
        for measure, by_model in measures.items()
    }
    descriptions["perplexity"]["word"] |= {"better": "lower", "unit": ""}
    descriptions["tofu"]["forget_quality.geo"] |= {"better": "higher", "unit": "p"}
    return {
        "schema": 1,
        "models": {name: {"path": f"/m/{name}", "sha256": name[0] * 64} for name in models},
        "measures": measures,
        "not_computed": {
            "prompt_attacks": "not asked for",
            "relearned": "data.evaluate.relearn is empty",
        },
        "descriptions": descriptions,
        "settings": {"leakage": {"num_samples": 100, "threshold": 0.5, "confidence": 0.99}},
        "seconds": 88.0,
    }
