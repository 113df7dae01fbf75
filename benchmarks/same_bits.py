"""Checks whether small runs of two commits compute the same values, bit for bit.

    python benchmarks/same_bits.py COMMIT COMMIT [--cases pmc npo ...] [--cache DIR]

The script checks each commit out into a temporary folder and runs all cases there, one after the
other, in one process of this interpreter. The comparison covers the weights, `results.json`, the
scalars and events of `log.jsonl`, `evaluation.json`, `compare.json` and `plan.json`, under the
names of the newer commit. The comparison ignores times, paths, digests, versions and descriptions.
The last output line is JSON. The exit status is 1 if a value differs by more than `--within`.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commits import REPOSITORY, checkout, commit_id
from same_bits_names import in_new_names, in_old_names

# Values that the computation does not determine, or that differ between runs.
IGNORED = {
    *("seconds", "unlearning_seconds", "total_seconds", "time", "created", "versions", "devices"),
    *("path", "folder", "sha256", "digest", "config", "settings", "compile_seconds", "text"),
    *("labels", "descriptions", "pmc_jax", "version", "dimensions", "device_kind"),
    *("limits", "max_seconds"),
}
SMALL = {
    **{
        "pmc.sampling.num_samples": 4,
        "pmc.sampling.max_new_tokens": 8,
        "pmc.sampling.batch_size": 8,
    },
    **{"pmc.schedule.epochs": 3, "pmc.schedule.steps_per_round": 2, "evaluate.max_new_tokens": 8},
    **{"train.batch_size": 3, "train.learning_rate": 3e-3, "train.warmup_steps": 2},
    **{"output.checkpoint_every": 2, "log.text": True, "seed": 1},
}
PUBLISHED = {
    **{"pmc.sampling.temperature": 1.3, "pmc.sampling.temperature_decay_tokens": 0},
    **{"pmc.sampling.top_k": 0, "pmc.sampling.top_p": 0.95, "pmc.sampling.max_attempts": 1},
    **{"pmc.score.threshold": 0, "pmc.score.min_len": 2, "pmc.score.guard_empty": False},
    **{"pmc.selection.prefer": "first", "pmc.selection.max_train_score": None},
    **{"pmc.selection.min_words": 0, "pmc.selection.max_repetition": 1.0},
    **{"pmc.selection.max_perplexity": None, "pmc.selection.rule": "bradley_terry"},
    **{"pmc.schedule.steps_per_round": 1, "pmc.schedule.retain_rows": 1},
    **{"pmc.schedule.lambda_retain": 1.25, "pmc.augmentation.question_word_dropout": 0},
}
SHARED = {
    **{"pmc.selection.share_answers": True, "pmc.selection.max_train_score": 0.5},
    **{"pmc.augmentation.answer_prefix": 0.5, "pmc.augmentation.question_word_dropout": 0.3},
    "pmc.reward_samples": 3,
}
ANSWERS = {"data.forget_answers.path": "forget.jsonl"}
EVERYTHING = {
    **{"evaluate.measures": ["all"], "evaluate.corpus.path": "text.txt"},
    **{"evaluate.corpus.chunk_tokens": 16, "evaluate.leakage.num_samples": 5},
    **{"evaluate.relearn.steps": 2, "evaluate.quantisation": ["int8", "nf4"]},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pmc": ("unlearn", {}),
    "published": ("unlearn", PUBLISHED),
    "shared": ("unlearn", SHARED),
    "npo": ("unlearn", {"method.name": "npo", **ANSWERS}),
    "dpo": ("unlearn", {"method.name": "dpo", **ANSWERS}),
    "rmu": ("unlearn", {"method.name": "rmu", **ANSWERS}),
    "lora": ("unlearn", {"train.lora.rank": 2}),
    "accumulation": ("unlearn", {"train.accumulation_steps": 2, "train.batch_size": 2}),
    "evaluate": ("evaluate", EVERYTHING),
    "compare": ("compare", {}),
    "plan": (
        "plan",
        {"plan.topology": "v5e:2x2", "plan.questions": 8, "plan.file": "out/plan.json"},
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="older and newer commit")
    parser.add_argument(
        "--cases", nargs="*", choices=list(CASES), default=list(CASES), help="cases to run"
    )
    parser.add_argument("--cache", type=Path, help="folder that stores the values of each commit")
    parser.add_argument("--within", type=float, default=0.0, help="allowed relative difference")
    # With this option, the process runs one commit: it gets the checkout and the folder for its
    # values.
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run_cases(*options.run, options.cases)
    records = [record(commit, options.cases, options.cache) for commit in options.commits]
    differences = {case: compare(records[0][case], records[1][case]) for case in options.cases}
    for case, found in differences.items():
        count = len(records[1][case])
        print(f"{case}: {count} values, " + ("the same" if not found else f"{len(found)} differ"))
        for name, (one, other, relative) in list(found.items())[:8]:
            print(f"    {name}: {one!r:.60} | {other!r:.60} (relative {relative:.1e})")
    worst = max((r for d in differences.values() for _, _, r in d.values()), default=0.0)
    counts = {case: len(found) for case, found in differences.items()}
    print(json.dumps({"benchmark": "same_bits", "differ": counts, "largest": worst}))
    return int(worst > options.within)


def record(commit: str, cases: list[str], cache: Path | None) -> dict[str, dict[str, Any]]:
    """Computes the values of a commit, and returns them as case -> name -> value."""
    commit = commit_id(commit)
    with checkout(commit) as folder:
        results = folder / "results" if cache is None else cache / commit
        results.mkdir(parents=True, exist_ok=True)
        missing = [case for case in cases if not (results / f"{case}.json").is_file()]
        if missing:
            command = [sys.executable, __file__, "-", "-", "--run", str(folder), str(results)]
            environment = os.environ | {"PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
            environment |= {"XDG_CACHE_HOME": f"{folder}/compiled", "TQDM_DISABLE": "1"}
            command += ["--cases", *missing]
            status = subprocess.run(command, env=environment, stdout=sys.stderr).returncode
            if status:
                raise SystemExit(
                    f"{commit[:9]}: the cases ended with status {status}. Read the error above."
                )
        return {
            case: in_new_names(json.loads((results / f"{case}.json").read_text())) for case in cases
        }


def run_cases(checkout: Path, results: Path, cases: list[str]) -> int:
    """Runs the cases with the package of `checkout` and writes `CASE.json` to `results`."""
    sys.path.insert(0, str(checkout))
    from pmc_jax import cli

    old = (checkout / "pmc_jax" / "pmc_config.py").is_file()
    names = in_old_names if old else dict
    for case in cases:
        command, changes = CASES[case]
        folder = write_inputs(checkout / f"run-{case}")
        os.chdir(folder)
        overrides = names(SMALL | changes)
        if case == "plan":
            (folder / "out").mkdir()
        if case == "compare":
            (folder / "compare.yaml").write_text(json.dumps(comparison(names, old)))
            call(cli, ["compare", "compare.yaml"])
        elif case == "evaluate":
            texts = [f"{n}={json.dumps(v)}" for n, v in names(SMALL).items()]
            call(cli, ["unlearn", "run.yaml", *texts])
            call(
                cli,
                ["evaluate", "out", *(f"{n}={json.dumps(v)}" for n, v in names(changes).items())],
            )
        else:
            call(
                cli, [command, "run.yaml", *(f"{n}={json.dumps(v)}" for n, v in overrides.items())]
            )
        values = dict(values_of(folder / "out"))
        assert values, f"{case}: the case wrote no values"
        (results / f"{case}.json").write_text(json.dumps(values))
    return 0


def call(cli: Any, arguments: list[str]) -> None:
    status = cli.main(arguments)
    if status:
        raise SystemExit(
            f"pmc {' '.join(arguments[:2])}: the command ended with status {status}. Read the "
            "error above."
        )


def comparison(names: Any, old: bool) -> dict[str, Any]:
    settings = {**SMALL, "pmc.schedule.epochs": 2, "evaluate.leakage.num_samples": 4}
    settings |= {"evaluate.corpus.path": "text.txt", **ANSWERS}
    settings.pop("seed")
    settings.pop("output.checkpoint_every")
    return {
        "run": "run.yaml",
        "settings": names(settings),
        "seconds" if old else "max_seconds": 10_000,
        "seeds": [1],
        "measures": ["sampling", "prefill", "side_effects"],
        "methods": {"pmc": {}, "retain_only": {}},
        "output": {"dir": "out"},
    }


def write_inputs(folder: Path) -> Path:
    """Writes a two-layer model with its own vocabulary, rows of data, and settings."""
    import numpy as np

    golden = REPOSITORY / "tests" / "golden" / "default"
    shutil.copytree(golden, folder / "model", ignore=shutil.ignore_patterns("golden.npz"))
    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(50))]
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template="{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}",
    ).save_pretrained(folder / "model")
    rng = np.random.default_rng(0)

    def text(size: int) -> str:
        return " ".join(rng.choice(words[3:], size))

    def row() -> dict[str, Any]:
        wrong = [text(5) for _ in range(3)]
        return {"question": text(4), "answer": text(5), "perturbed_answer": wrong}

    for name, count in (("forget", 6), ("again", 6), ("retain", 9)):
        lines = (json.dumps(row()) for _ in range(count))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "text.txt").write_text(text(200))
    forget, again, retain = ({"path": f"{name}.jsonl"} for name in ("forget", "again", "retain"))
    evaluate = {"forget": forget, "forget_paraphrased": again, "retain": retain}
    run = {
        "model": {"path": "model"},
        "data": {"forget": forget, "retain": retain, "evaluate": evaluate},
        "output": {"dir": "out"},
    }
    (folder / "run.yaml").write_text(json.dumps(run))
    return folder


def values_of(out: Path) -> Iterator[tuple[str, Any]]:
    """Yields the name and the content of every computed value in an output folder."""
    from safetensors.numpy import load_file

    for path in sorted(out.rglob("*.safetensors")):
        for name, array in load_file(path).items():
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            yield f"{path.relative_to(out)}/{name}", f"{array.dtype} {array.shape} {digest}"
    for name in ("results", "evaluation", "compare", "plan"):
        for path in sorted(out.rglob(f"{name}.json")):
            yield from flat(f"{path.relative_to(out)}", json.loads(path.read_text()))
    for path in sorted(out.rglob("log.jsonl")):
        for i, line in enumerate(path.read_text().splitlines()):
            yield from flat(f"{path.relative_to(out)}/{i}", json.loads(line))


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in IGNORED:
                yield from flat(f"{name}/{key}", each)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from flat(f"{name}/{i}", each)
    else:
        yield name, value


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any, float]]:
    """Returns the values that differ as name -> (value, other value, relative difference)."""
    different = {}
    for name in [*one, *(n for n in other if n not in one)]:
        a, b = one.get(name, "absent"), other.get(name, "absent")
        if a == b or (a != a and b != b) or IGNORED.intersection(name.split("/")):
            continue
        relative = float("inf")
        if isinstance(a, int | float) and isinstance(b, int | float):
            relative = abs(a - b) / max(abs(a), abs(b))
        different[name] = (a, b, relative)
    return different


if __name__ == "__main__":
    sys.exit(main())
