"""Evaluation of a whole run: rows are kept and gone on with, numbers are those of the rows."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
from host_runs import Job

import pmc_jax
from pmc_jax.commands import evaluate_job
from pmc_jax.config.data import DataConfig
from pmc_jax.config.evaluate import MEASURE_NAMES
from pmc_jax.config.model import ModelConfig
from pmc_jax.config.run import EvaluateConfig
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation import harness, tables, tasks
from pmc_jax.evaluation.context import EvalContext
from pmc_jax.evaluation.result import NO_REFERENCE
from pmc_jax.evaluation.rows import of_split
from pmc_jax.scoring.rouge import rougeL_recall

ALL = (
    *("evaluate.measures=all", "evaluate.leakage.num_samples=5", "evaluate.quantisation=int8"),
    *(
        "evaluate.relearn.steps=2",
        "evaluate.corpus.path=text.txt",
        "evaluate.corpus.chunk_tokens=16",
    ),
    *("data.evaluate.forget.path=full.jsonl", "data.evaluate.holdout.path=holdout.jsonl"),
)


def full_rows() -> list[dict]:
    """The forget rows with paraphrased and wrong answers."""
    others = [row["answer"] for row in tiny.RETAIN]
    return [
        {**row, "paraphrased_answer": f"{row['answer']} {word}", "perturbed_answer": others[:3]}
        for row, word in zip(tiny.FORGET, tiny.WORDS, strict=False)
    ]


def prepare(folder: Path) -> None:
    tiny.write_rows(folder / "full.jsonl", full_rows())
    tiny.write_rows(folder / "holdout.jsonl", tiny.rows(5, seed=9))
    words = np.random.default_rng(0).choice(tiny.WORDS, 100)
    (folder / "text.txt").write_text(" ".join(words))


@pytest.fixture(scope="module")
def measured(plain, tmp_path_factory) -> Path:
    """A finished run that everything was measured of, with a reference; its folder of inputs."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(plain.folder, folder)
    prepare(folder)
    with contextlib.chdir(folder):
        shutil.copytree("model", "other")
        tiny.pmc("evaluate", *ALL, "evaluate.reference=other", config="out")
    return folder


@pytest.fixture
def folder(measured, tmp_path, monkeypatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(measured, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def found(folder: Path = Path()) -> dict:
    return json.loads((folder / "out" / "evaluation.json").read_text())


def rows(folder: Path, name: str) -> dict:
    lines = (folder / "out" / "evaluation" / f"{name}.jsonl").read_text().splitlines()
    return {k: v for line in lines for k, v in json.loads(line).get("rows", {}).items()}


def test_every_measure_says_something_of_every_model(measured):
    numbers = found(measured)
    assert set(numbers["models"]) == {"before", "after", "reference"}
    assert set(numbers["not_computed"]) == {"indistinguishable"}  # the run has too few questions
    assert {*numbers["measures"], *numbers["not_computed"]} == {"quality", *MEASURE_NAMES}
    for measure, by_model in numbers["measures"].items():
        assert set(by_model) == {"before", "after", "reference"}
        for result in by_model.values():
            assert result["values"], measure
            names = {*result["values"], *result["missing"]}
            assert names <= set(numbers["descriptions"][measure])
            assert all(isinstance(v, float) for v in result["values"].values())


def test_quality_is_what_the_run_found(measured):
    results, numbers = tiny.results(measured / "out"), found(measured)
    for moment in ("before", "after"):
        again = tables.headline(numbers, moment)
        assert again["unlearn_quality"] == pytest.approx(results[moment]["unlearn_quality"])
        assert again["splits"] == results[moment]["splits"]


def test_the_same_model_is_the_same_beside_itself(measured):
    """`before` and `reference` are copies of one model here."""
    numbers = found(measured)["measures"]
    for measure, by_model in numbers.items():
        assert by_model["before"]["values"] == by_model["reference"]["values"], measure
    side = numbers["side_effects"]["before"]["values"]
    assert set(side.values()) == {0.0}
    assert any(numbers["side_effects"]["after"]["values"].values())


def test_rows_are_of_every_question(measured):
    ids = [f"full:{i}" for i in range(len(tiny.FORGET))]
    sampling = rows(measured, "after.sampling")
    assert sorted(sampling) == ids and all(len(row["scores"]) == 5 for row in sampling.values())
    assert sorted(of_split(rows(measured, "after.likelihood"), "forget")) == ids
    row = rows(measured, "after.likelihood")["forget/full:0"]
    answer = tiny.FORGET[0]["answer"].split()
    assert len(row["answer"]["logp"]) == len(answer) + 1  # and an end
    assert len(row["paraphrased"]["logp"]) == len(answer) + 2 and len(row["wrong"]) == 3
    assert all(value <= 0 for value in row["answer"]["logp"])


def test_nothing_that_was_kept_quotes_anything(measured):
    kept = [*(measured / "out" / "evaluation").iterdir(), measured / "out" / "evaluation.json"]
    assert len(kept) > 20
    for path in kept:
        assert not [word for word in tiny.WORDS if word in path.read_text()], path


def test_what_is_there_is_not_asked_again(folder, monkeypatch):
    before = found()
    monkeypatch.setattr(
        evaluate_job, "load_model", lambda *_, **__: pytest.fail("a model was loaded")
    )
    done = tiny.pmc("evaluate", *ALL, "evaluate.reference=other", config="out")
    assert done.status == 0, done.err
    assert {**found(), "seconds": 0} == {**before, "seconds": 0}


def test_another_setting_asks_again_for_what_depends_on_it(folder):
    likelihood, sampling = (
        Path("out/evaluation", f"after.{name}.jsonl").read_bytes()
        for name in ("likelihood", "sampling")
    )
    changed = ("evaluate.leakage.num_samples=3", "evaluate.quantisation=[int8, int4]")
    done = tiny.pmc("evaluate", *ALL, *changed, config="out")
    assert done.status == 0, done.err
    assert Path("out/evaluation/after.likelihood.jsonl").read_bytes() == likelihood
    assert Path("out/evaluation/after.sampling.jsonl").read_bytes() != sampling
    assert {len(row["scores"]) for row in rows(Path(), "after.sampling").values()} == {3}
    assert set(found()["measures"]["quantised"]["after"]["values"]) == {"none", "int8", "int4"}
    # This time no reference was named.
    assert "reference" not in found()["models"]
    missing = found()["measures"]["tofu"]["after"]["missing"]
    assert missing["forget_quality.geo"] == NO_REFERENCE


def test_an_interrupted_evaluation_goes_on_where_it_was(folder, monkeypatch):
    expected = found()
    shutil.rmtree("out/evaluation")
    Path("out/evaluation.json").unlink()
    with monkeypatch.context() as patch:
        tiny.crash(patch, tasks, "rougeL_recall", 40)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny.pmc("evaluate", *ALL, "evaluate.reference=other", config="out")
    assert not Path("out/evaluation.json").exists()
    files = sorted(Path("out/evaluation").iterdir())
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes() + b'{"rows": {"forget')  # and half a line
    done = tiny.pmc("evaluate", *ALL, "evaluate.reference=other", config="out")
    assert done.status == 0, done.err
    assert found()["measures"] == expected["measures"]


def test_samples_left_are_those_that_were_left(folder):
    """A question's samples depend on its number, not on which are asked beside it."""
    whole = rows(Path(), "after.sampling")
    path = Path("out/evaluation/after.sampling.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    some = dict(list(whole.items())[::2])
    path.write_text("".join(json.dumps(x) + "\n" for x in (lines[0], {"rows": some})))
    assert tiny.pmc("evaluate", *ALL, config="out").status == 0
    assert rows(Path(), "after.sampling") == whole


def test_measures_of_one_model_by_settings(folder):
    wanted = (
        "evaluate.measures=[sampling, membership]",
        "evaluate.leakage.num_samples=2",
        "output.dir=null",
    )
    done = tiny.succeed("evaluate", *wanted, "model.path=out/model")
    numbers = json.loads(done.lines[-1])
    assert numbers["splits"] == tiny.results()["after"]["splits"]
    assert set(numbers["evaluation"]["measures"]) == {"quality", "sampling"}
    assert "holdout" in numbers["evaluation"]["not_computed"]["membership"]


def test_bad_requests_are_one_line(folder):
    refused = tiny.pmc("evaluate", "evaluate.measures=spam", config="out")
    assert refused.status == 2 and "evaluate.measures" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    Path("out/results.json").unlink()
    refused = tiny.pmc("evaluate", config="out")
    assert refused.status == 2 and "holds no finished run" in refused.err


def test_unlearning_measures_at_its_end_when_asked(plain, tmp_path, monkeypatch):
    prepare(tmp_path)
    wanted = ("evaluate.measures=[sampling, multiple_choice]", "evaluate.leakage.num_samples=2")
    run = tiny.run(tmp_path, *wanted, "data.evaluate.forget.path=full.jsonl")
    numbers = found(tmp_path)
    assert set(numbers["measures"]) == {"quality", "multiple_choice", "sampling"}
    assert run.out.joinpath("results.json").exists()
    monkeypatch.chdir(tmp_path)
    assert tiny.pmc("verify", config="out").status == 0
    tiny.pmc("evaluate", "evaluate.measures=perplexity", config="out")
    assert tiny.pmc("verify", config="out").status == 0


def test_in_a_library_call(measured):
    lm = pmc_jax.load(measured / "model")
    full = full_rows()
    forget = EvalSet(
        "forget",
        tuple(f"q{i}" for i in range(len(full))),
        *(tuple(row[name] for row in full) for name in ("question", "answer")),
        wrong=tuple(tuple(row["perturbed_answer"]) for row in full),
    )
    config = EvaluateConfig(
        max_new_tokens=8,
        measures=("multiple_choice", "sampling"),
        leakage={"num_samples": 3},
    )
    result = pmc_jax.evaluate(lm, [forget], config=config, reference=lm, before=lm)
    said = pmc_jax.answer(lm, forget.questions, max_new_tokens=8)
    recalls = [rougeL_recall(*pair) for pair in zip(forget.answers, said, strict=True)]
    assert result["splits"]["forget"]["rougeL_recall"] == pytest.approx(np.mean(recalls))
    assert set(result["evaluation"]["models"]) == {"before", "after", "reference"}
    with pytest.raises(pmc_jax.UserError, match="the split forgot is unknown"):
        pmc_jax.evaluate(lm, {"forgot": [("a", "b")]})


def test_the_store_starts_anew_where_rows_are_of_something_else(tmp_path):
    path = tmp_path / "after.greedy.jsonl"
    store = harness._Store(path, "one")
    store.add({"a": {"x": 1}})
    store.add({"b": {"x": 3}})
    store = harness._Store(path, "one")
    assert store.rows == {"a": {"x": 1}, "b": {"x": 3}} and not store.complete
    store.finish(["b", "a"])
    store = harness._Store(path, "one")
    assert store.complete and list(store.rows) == ["b", "a"]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")  # The rows of "a" are lost.
    assert not harness._Store(path, "one").complete
    store = harness._Store(path, "one")
    store = harness._Store(path, "other")
    assert store.rows == {} and not store.complete


@pytest.mark.slow
def test_two_processes_measure_as_one(folder, tmp_path):
    """Samples are the same; log-probabilities but for the rounding of other shards."""
    expected, samples = found(), rows(Path(), "after.sampling")
    shutil.rmtree("out/evaluation")
    wanted = ("evaluate", "out", *ALL, "evaluate.reference=other")
    for process in Job(
        *wanted, "mesh.fsdp=2", "mesh.tensor=2", cache=tmp_path / "programs"
    ).ended():
        assert process.status == 0, process.err[-3000:]
    assert rows(Path(), "after.sampling") == samples
    for measure, by_model in expected["measures"].items():
        for model, result in by_model.items():
            again = found()["measures"][measure][model]
            assert again["missing"] == result["missing"]
            # float32 sums in another order.
            assert again["values"] == pytest.approx(result["values"], abs=1e-3), (measure, model)


def test_stored_rows_depend_on_prompts_dtypes_and_lengths_of_rows():
    def digest(task: str, model: ModelConfig, data: DataConfig) -> str:
        context = EvalContext({}, None, EvaluateConfig(), data, model=model)
        return harness._digest(task, "sha", context)

    plain = digest("greedy", ModelConfig(), DataConfig())
    for name, value in (("system_prompt", "Lie."), ("compute_dtype", "bfloat16")):
        assert digest("greedy", ModelConfig(**{name: value}), DataConfig()) != plain
    assert digest("greedy", ModelConfig(path="moved"), DataConfig(max_length=7)) == plain
    trained = [digest("relearned", ModelConfig(), DataConfig(max_length=n)) for n in (7, 8)]
    assert trained[0] != trained[1]


@pytest.mark.parametrize("row", [None, "text", 1])
def test_stored_rows_of_another_form_are_computed_again(row, tmp_path):
    path = tmp_path / "after.greedy.jsonl"
    lines = [{"digest": "d"}, {"rows": {"a": {"rougeL": 1.0}}}, {"rows": {"b": row}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert harness._resumed(path, "d") == lines[1:2]
