"""`pmc compare` on a tiny model: what it runs, resumes, counts and leaves."""

import contextlib
import json
import shutil
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_runs as tiny
from compare_runs import NAMES, compare, noted_questions, write_inputs
from report_page import Page

from pmc_jax.artifacts.log import read_log
from pmc_jax.commands import unlearn_job
from pmc_jax.errors import Preempted, UserError


class Compared(NamedTuple):
    """A comparison that was interrupted in its fourth run and resumed."""

    folder: Path
    first: tiny.Done
    page: str  # as it stood between
    again: tiny.Done
    ran: list[str]  # by the second command
    times: dict[str, tuple[int, int]]  # result of a run -> when it was changed, between and after
    held: list[int]
    answering_models: list[str]  # what greedy answers the first command asked for

    @property
    def data(self) -> dict[str, Any]:
        return json.loads((self.folder / "out" / "compare.json").read_text())

    def path(self, name: str) -> Path:
        return self.folder / "out" / "runs" / name


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Compared:
    folder = tmp_path_factory.mktemp("compare")
    write_inputs(folder)
    results = [folder / "out" / "runs" / name / "results.json" for name in NAMES[:3]]
    with contextlib.chdir(folder):
        with pytest.MonkeyPatch.context() as patch:
            tiny.crash(patch, unlearn_job, "run_unlearn", 3, Preempted())
            answering_models = noted_questions(patch)
            first, _, held = compare()
        page = Path("out/compare.html").read_text()
        between = [path.stat().st_mtime_ns for path in results]
        again, ran, _ = compare()
    after = [path.stat().st_mtime_ns for path in results]
    times = dict(zip(NAMES, zip(between, after, strict=True), strict=False))
    return Compared(folder, first, page, again, ran, times, held, answering_models)


@pytest.fixture
def copied(compared, tmp_path, monkeypatch) -> Path:
    """A copy of the comparison, the current folder."""
    shutil.copytree(compared.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


# What is run


def test_an_interruption_leaves_a_page_and_finished_runs_are_not_run_again(compared):
    assert compared.first.status == 75 and "received SIGTERM" in compared.first.err
    between = Page(compared.page)
    assert "3 of 4 runs are finished" in between.text
    assert compared.again.status == 0, compared.again.err
    assert compared.ran == NAMES[3:]
    assert all(before == after for before, after in compared.times.values())
    assert "Not complete" not in Page((compared.folder / "out/compare.html").read_text()).text
    assert compared.data["complete"] and [c["name"] for c in compared.data["runs"]] == NAMES


def test_target_and_reference_are_made_once_and_shared(compared):
    said = compared.first.lines + compared.again.lines
    made = [line for line in said if line.startswith(("target model", "reference model"))]
    assert [("(reused" in line) for line in made] == [False, False, True, True]
    models = compared.data["models"]
    for name in NAMES:
        record = json.loads((compared.path(name) / "run.json").read_text())
        assert record["digests"]["model"] == models["target"]["sha256"]
        measured = json.loads((compared.path(name) / "evaluation.json").read_text())["models"]
        assert {n: m["sha256"] for n, m in measured.items() if n != "after"} == {
            "before": models["target"]["sha256"],
            "reference": models["reference"]["sha256"],
        }
    # It never saw the forget rows: it says nearly nothing of them, and knows the retain rows.
    assert models["target"]["values"]["forget"] == 1 > models["reference"]["values"]["forget"]
    assert models["reference"]["values"]["utility"] == 100


def test_no_model_is_asked_twice(compared):
    of_a_run = ["evaluate", "evaluate after"]  # on the way and at its end
    assert compared.answering_models == ["before", "reference", "evaluate before", *3 * of_a_run]
    for name in NAMES:  # the fourth was run by another command
        results = tiny.results(compared.path(name))
        measured = json.loads((compared.path(name) / "evaluation.json").read_text())["measures"]
        for model in ("before", "after"):
            values = measured["quality"][model]["values"]
            assert values["unlearn_quality"] == results[model]["unlearn_quality"]
            assert values["utility"] == results[model]["utility"]


def test_nothing_stays_on_the_device_between_runs(compared):
    assert len(compared.held) == 4  # the fourth was asked for
    assert max(compared.held) <= compared.held[0] + 10_000  # a model has 200 kB


def test_runs_are_whole_without_their_weights(compared):
    for name in NAMES:
        names = {path.name for path in compared.path(name).iterdir()}
        assert names == {
            *("run.json", "results.json", "log.jsonl", "tensorboard", "loss.png"),
            *("manifest.json", "report.html", "report.json", "evaluation.json"),
        }
        with contextlib.chdir(compared.folder):
            verified = tiny.pmc("verify", config=f"out/runs/{name}")
        assert verified.status == 0, verified.out
    assert {path.name for path in (compared.folder / "out").iterdir()} == {
        *("target", "reference", "runs", "evaluation"),
        *("compare.json", "compare.html", "plots"),
    }


def test_reports_of_runs_speak_of_their_own_method(compared):
    pages = {name: Page((compared.path(name) / "report.html").read_text()) for name in NAMES[:2]}
    sampled, retained = (pages[name].text for name in NAMES[:2])
    for part in ("samples of its own that differ from its original", "Method: PMC"):
        assert part in sampled and part not in retained
    assert "Method: retain-only, pmc_jax" in retained
    assert "Reference model" in retained  # measured beside the reference


# Numbers


def test_tables_are_those_of_the_runs_results(compared):
    reference = compared.data["models"]["reference"]["values"]["unlearn_quality"]
    for method in ("pmc", "retain_only"):
        results = [tiny.results(compared.path(f"{method}-seed{seed}")) for seed in (0, 1)]
        (entry,) = [e for e in compared.data["entries"] if e["name"] == method]
        expected = {
            "unlearn_quality": [r["after"]["unlearn_quality"] for r in results],
            "utility": [r["after"]["utility"] for r in results],
            "above_reference": [r["after"]["unlearn_quality"] - reference for r in results],
            "seconds": [
                sum(r["seconds"][stage] for stage in ("sample", "score", "train")) for r in results
            ],
            "steps": [r["rounds"][-1]["step"] for r in results],
            "sampled_tokens": [r["tokens"]["sampled"] for r in results],
            "trained_tokens": [r["tokens"]["trained"] for r in results],
        }
        for split in ("forget", "forget_paraphrased", "retain"):
            expected[split] = [r["after"]["splits"][split]["rougeL_recall"] for r in results]
        assert set(entry["values"]) == set(expected)
        for name, (one, other) in expected.items():
            spread = entry["values"][name]
            # The loop's own sum of seconds is taken a moment before the results'.
            close = 1e-2 if name == "seconds" else 1e-9
            assert spread["mean"] == pytest.approx((one + other) / 2, abs=close), name
            # Of two numbers, with n - 1 in the denominator.
            assert spread["std"] == pytest.approx(abs(one - other) / 2**0.5, abs=close), name
            assert spread["n"] == 2
        (row,) = [line for line in compared.again.lines if line.startswith(entry["label"])]
        quality = entry["values"]["unlearn_quality"]
        assert f"{quality['mean']:.1f} ± {quality['std']:.1f}" in row
        assert row.endswith("  2")
    sampled = {c["name"]: c["values"]["sampled_tokens"] for c in compared.data["runs"]}
    assert sampled["pmc-seed0"] > 0 == sampled["retain_only-seed0"]


def test_differences_are_taken_seed_by_seed(compared):
    values = {c["name"]: c["values"]["unlearn_quality"] for c in compared.data["runs"]}
    less = [values[f"pmc-seed{s}"] - values[f"retain_only-seed{s}"] for s in (0, 1)]
    (one,) = compared.data["paired"]
    assert (one["entry"], one["less"]) == ("pmc", "retain_only")
    assert one["values"]["unlearn_quality"] == {
        "mean": pytest.approx(statistics.mean(less)),
        "std": pytest.approx(statistics.stdev(less)),
        "n": 2,
    }


def test_a_curve_has_the_measurements_on_the_way_and_the_end(compared):
    for run in compared.data["runs"]:
        results = tiny.results(compared.path(run["name"]))
        way = [one for one in results["rounds"] if "unlearning_seconds" in one]
        assert len(way) == 1 and way[0]["step"] == 1
        first, last = run["curve"]
        assert first["seconds"] == way[0]["unlearning_seconds"] < last["seconds"]
        assert first["unlearn_quality"] == way[0]["unlearn_quality"]
        assert last["unlearn_quality"] == results["after"]["unlearn_quality"]
    for entry in compared.data["entries"]:
        assert [point["seconds"]["n"] for point in entry["curve"]] == [2, 2]


def test_limitations_are_those_of_the_runs_evaluations(compared):
    for entry in compared.data["entries"]:
        evaluations = [
            json.loads((compared.path(name) / "evaluation.json").read_text())["measures"]
            for name in entry["runs"]
        ]
        assert set(evaluations[0]) == {
            "quality",
            "side_effects",
            "multiple_choice",
            "sampling",
            "prefill",
        }
        for measure, name in (
            ("side_effects", "reference.forget.dropped"),
            *(("multiple_choice", "least_likely"), ("sampling", "worst"), ("prefill", "worst")),
        ):
            numbers = [one[measure]["after"]["values"][name] for one in evaluations]
            assert entry["measures"][measure][name]["mean"] == pytest.approx(sum(numbers) / 2)
        worst = [x for one in evaluations for x in one["sampling"]["after"]["series"]["worst"]]
        assert entry["series"]["sampling"]["worst"] == worst and len(worst) == 12
        heaps = [one["side_effects"]["after"]["series"]["reference.forget"] for one in evaluations]
        pooled = entry["series"]["side_effects"]["reference.forget"]
        assert pooled == [a + b for a, b in zip(*heaps, strict=True)] and sum(pooled) > 0
    # Measured with the same random numbers whatever the run's seed is.
    settings = [
        json.loads((compared.path(name) / "evaluation.json").read_text())["settings"]
        for name in NAMES
    ]
    assert all(one == settings[0] and one["seed"] == 0 for one in settings)


# Again


def test_a_finished_comparison_is_not_run_again_and_makes_the_same_page(compared, copied):
    page = Path("out/compare.html").read_text()
    Path("out/compare.html").unlink()
    done, ran, _ = compare()
    assert done.status == 0 and ran == []
    assert Path("out/compare.html").read_text() == page
    assert json.loads(Path("out/compare.json").read_text()) == compared.data


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            "settings.pmc.schedule.lambda_retain=2",
            ["pmc-seed0", "pmc.schedule.lambda_retain was 1.25 and is now 2.0"],
        ),
        ("max_seconds=99", ["pmc-seed0", "method.max_seconds was 1000.0 and is now 99.0"]),
        ("settings.data.evaluate.retain.rows=0:4", ["pmc-seed0", "other settings or data"]),
        ("settings.finetune.epochs=2", ["target model with other settings or data"]),
    ],
)
def test_runs_of_other_settings_are_refused_and_left_alone(change, parts, copied):
    before = tiny.digest(Path("out"))
    done, ran, _ = compare(change)
    assert done.status == 2 and ran == []
    (message,) = [line for line in done.err.splitlines() if line.startswith("pmc: error")]
    tiny.assert_names(message, *parts, "--overwrite")
    assert tiny.digest(Path("out")) == before


def test_other_measures_of_runs_without_weights_are_refused(copied):
    done, ran, _ = compare("measures=[memorisation]")
    assert done.status == 2 and ran == []
    assert "no model/ to measure" in done.err and "output.keep_models" in done.err


@pytest.mark.slow
def test_a_run_that_diverges_is_recorded_and_repeated(copied, monkeypatch):
    run = Path("out/runs/retain_only-seed1")
    shutil.rmtree(run)

    def diverge(config, **_):
        run.mkdir()
        tiny.write_rows(run / "log.jsonl", [{"kind": "scalars", "step": 1}])
        raise UserError("step 2: loss or gradient not finite")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unlearn_job, "run_unlearn", diverge)
        done = tiny.pmc("compare", config="compare.yaml")
    assert done.status == 0, done.err
    data = json.loads(Path("out/compare.json").read_text())
    assert data["failed"] == {"retain_only-seed1": "step 2: loss or gradient not finite"}
    assert not data["complete"] and data["paired"] == []
    (entry,) = [e for e in data["entries"] if e["name"] == "retain_only"]
    assert entry["values"]["utility"]["n"] == 1 and entry["values"]["utility"]["std"] is None
    page = Page(Path("out/compare.html").read_text())
    assert "Runs that failed" in page.text and "loss or gradient not finite" in page.text
    shutil.rmtree(run)
    done, ran, _ = compare("output.keep_models=true")
    assert done.status == 0 and ran == ["retain_only-seed1"]
    assert (run / "model").is_dir() and not (run / "checkpoints").exists()
    assert read_log(run / "log.jsonl")[0]["kind"] == "scalars"


def test_a_fault_of_the_input_is_not_taken_for_a_failed_run(copied):
    shutil.rmtree("out/runs/pmc-seed0")

    def refuse(config, **_):
        raise UserError("data.forget: at fault")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unlearn_job, "run_unlearn", refuse)
        done = tiny.pmc("compare", config="compare.yaml")
    assert done.status == 2 and "data.forget: at fault" in done.err


# Models that never saw the data


@pytest.mark.slow
def test_runs_are_tested_against_models_that_never_saw_the_data(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(Path("again.jsonl"), tiny.rows(40, seed=5))
    settings = ("reference.seeds=5", "measures=[indistinguishable]", "seeds=[0]")
    done, _, _ = compare(*settings, "controls=[retain_only]")
    assert done.status == 0, done.err
    assert sum(line.startswith("never-saw model") for line in done.lines) == 5
    models = [Path(f"out/never_saw/seed{seed}/target") for seed in range(1, 6)]
    assert len({(model / "model.safetensors").read_bytes() for model in models}) == 5
    (run, _) = json.loads(Path("out/compare.json").read_text())["runs"]
    assert run["measures"]["indistinguishable"]["questions"] == 40
    evaluation = json.loads(Path("out/runs/pmc-seed0/evaluation.json").read_text())
    assert [one["path"] for one in evaluation["never_saw"]] == [str(model) for model in models]
    done, ran, _ = compare(*settings, "controls=[retain_only]")
    assert done.status == 0 and ran == []


# Purge


def test_a_purge_removes_what_the_comparison_knows_and_names_the_rest(copied):
    report = json.loads(Path("out/runs/pmc-seed0/report.json").read_text())["runs"][0]
    commands = [one["command"] for one in report["to_delete"]["by_command"]]
    assert "pmc compare COMPARE.yaml --purge" in commands
    done = tiny.pmc("compare", "--purge", config="compare.yaml")
    assert done.status == 0, done.err
    assert done.lines[:2] == [
        "out: pmc removed target/, evaluation/, and the checkpoints and texts of 4 runs",
        "Delete the following files yourself, because they may still reveal the data:",
    ]
    for part in ("/model.", "forget.jsonl", "choices.jsonl", "Backups"):
        assert part in "".join(done.lines[2:])
    assert not Path("out/target").exists() and not Path("out/evaluation").exists()
    assert Path("out/reference/target").is_dir()  # it never saw the data
    report = json.loads(Path("out/runs/pmc-seed0/report.json").read_text())["runs"][0]
    assert not report["to_delete"]["by_command"]
    done = tiny.pmc("compare", "--purge", config="compare.yaml")
    assert done.lines[0] == "out: pmc removed the checkpoints and texts of 4 runs"
    message = tiny.refused("compare", config="compare.yaml")
    tiny.assert_names(
        message, "out: the target model of this comparison was removed", "--overwrite"
    )


def test_a_comparison_that_is_not_finished_is_not_purged(copied):
    path = Path("out/compare.json")
    comparison = json.loads(path.read_text())
    path.write_text(json.dumps(comparison | {"runs": comparison["runs"][:-1]}))
    message = tiny.refused("compare", "--purge", config="compare.yaml")
    tiny.assert_names(message, "The comparison is not finished")
    shutil.rmtree("out")
    assert "holds no comparison" in tiny.refused("compare", "--purge", config="compare.yaml")
