"""The library calls on a tiny model: what they return, and that they leave their model alone."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs as tiny

import pmc_jax as pmc
from pmc_jax.config.run import Config
from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES
from pmc_jax.sampling.generator import TextGenerator

PAIRS = [(row["question"], row["answer"]) for row in tiny.FORGET]
OTHERS = [(row["question"], row["answer"]) for row in tiny.RETAIN]
QUESTIONS = [question for question, _ in PAIRS]
LEARN = pmc.FinetuneConfig(epochs=40, batch_size=14, learning_rate=1e-2)
COLLAPSE = tiny.published(num_samples=8, epochs=16, max_new_tokens=8, temperature=1.3)
TRAIN = pmc.TrainConfig(batch_size=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def lm(tmp_path_factory) -> pmc.LanguageModel:
    return pmc.load(tiny.write_model(tmp_path_factory.mktemp("api") / "model"))


@pytest.fixture(scope="module")
def taught(lm) -> pmc.LanguageModel:
    """Knows all rows by heart."""
    return pmc.finetune(lm, PAIRS + OTHERS, config=LEARN)


@pytest.fixture(scope="module")
def unlearned(taught) -> pmc.Unlearned:
    return pmc.unlearn(taught, QUESTIONS, OTHERS, config=COLLAPSE, train=TRAIN, seed=1)


def test_rows_of_the_sharding_tables_reach_training_and_sampling(lm):
    config = Config(
        mesh={
            "slices": 1,
            "train_rules": {"embed": [], "mlp": ["fsdp"]},
            "sample_rules": {"vocab": []},
        }
    )
    changed = pmc.load(lm.source, mesh=config)
    assert dict(changed.layout.rules) == {**TRAIN_RULES, "embed": (), "mlp": ("fsdp",)}
    generator = TextGenerator.of(changed, pmc.ModelConfig())
    assert dict(generator.layout.rules) == {**SAMPLE_RULES, "vocab": ()}
    assert generator.layout.mesh == changed.layout.mesh
    up = changed.model.arrays()["layers.up"].sharding
    assert up.spec == jax.P(None, None, "fsdp")
    with pytest.raises(
        pmc.UserError, match=r"mpl: this setting is unknown\. Did you mean sample_rules\.mlp\?"
    ):
        pmc.load(lm.source, mesh={"sample_rules": {"mpl": ["fsdp"]}})


def _arrays(lm) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(lm.model)]


def _same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def test_ten_lines_of_the_readme(tmp_path):
    lm = pmc.load(tiny.write_model(tmp_path / "model"))
    before = _arrays(lm)
    result = pmc.unlearn(
        lm,
        forget=QUESTIONS[:2],
        retain=OTHERS[:3],
        config=tiny.pmc_config(num_samples=8, epochs=2, max_new_tokens=8),
    )
    answers = result.answer(QUESTIONS[:2], max_new_tokens=8)
    result.lm.save(tmp_path / "out")
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(lm.model))
    assert _same(_arrays(lm), before) and not _same(_arrays(result.lm), before)
    assert pmc.answer(pmc.load(tmp_path / "out"), QUESTIONS[:2], max_new_tokens=8) == answers


def test_finetune_learns_and_leaves_its_model_alone(lm, taught):
    assert pmc.answer(taught, QUESTIONS, max_new_tokens=8) == [answer for _, answer in PAIRS]
    before = _arrays(lm)
    again = pmc.finetune(lm, PAIRS + OTHERS, config=LEARN)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(lm.model))
    assert _same(_arrays(lm), before)
    assert _same(_arrays(again), _arrays(taught))
    little = pmc.FinetuneConfig(epochs=3, batch_size=4)
    other = pmc.finetune(lm, PAIRS + OTHERS, config=little, seed=1)
    assert pmc.answer(other, QUESTIONS, max_new_tokens=8) != [answer for _, answer in PAIRS]


def test_unlearn_forgets_and_tells_what_it_did(taught, unlearned):
    ids = [f"question:{i}" for i in range(len(QUESTIONS))]
    truths = [answer for _, answer in PAIRS]
    assert (
        list(unlearned.originals) == list(unlearned.replacements) == list(unlearned.scores) == ids
    )
    # The originals are what the model said, which it knew by heart; no answer was given to the
    # call.
    assert list(unlearned.originals.values()) == truths
    assert set(unlearned.scores.values()) == {0.0}
    for original, answer in zip(truths, unlearned.replacements.values(), strict=True):
        assert answer.strip() and not set(original.split()) & set(answer.split())
    after = pmc.evaluate(unlearned.lm, {"forget": PAIRS, "retain": OTHERS})
    before = pmc.evaluate(taught, {"forget": PAIRS, "retain": OTHERS})
    assert before["splits"]["forget"]["rougeL_recall"] == 1 and before["utility"] == 100
    assert after["splits"]["forget"]["rougeL_recall"] <= 0.5 and after["utility"] >= 85
    assert len(unlearned.rounds) == 24 == unlearned.rounds[-1]["step"]
    stages = {name: s for name, s in unlearned.seconds.items() if name != "total"}
    assert unlearned.seconds["total"] == pytest.approx(sum(stages.values()))
    assert stages["sample"] > 0 and stages["train"] > 0 and stages["finetune"] == 0
    asked = sum(one["sampled_questions"] for one in unlearned.rounds)
    assert 8 * asked <= unlearned.tokens["sampled"] <= 64 * asked
    assert unlearned.tokens["trained"] > 24 * 4 * 10


def test_a_seed_repeats_and_another_differs(taught, unlearned):
    def run(seed: int) -> pmc.Unlearned:
        return pmc.unlearn(taught, QUESTIONS, OTHERS, config=COLLAPSE, train=TRAIN, seed=seed)

    same, other = run(1), run(2)
    assert _same(_arrays(same.lm), _arrays(unlearned.lm))
    assert same.replacements == unlearned.replacements and same.rounds == unlearned.rounds
    assert not _same(_arrays(other.lm), _arrays(unlearned.lm))
    assert other.originals == unlearned.originals


def test_forget_and_retain_sets_are_taken_as_they_are(taught):
    forget = pmc.ForgetSet(("b", "a"), tuple(QUESTIONS[:2]))
    retain = pmc.RetainSet(("x",), (OTHERS[0][0],), (OTHERS[0][1],))
    config = tiny.published(epochs=0, max_new_tokens=8)
    result = pmc.unlearn(taught, forget, retain, config=config)
    assert result.originals == {"b": PAIRS[0][1], "a": PAIRS[1][1]}
    assert result.replacements == {"b": None, "a": None} and result.rounds == []
    assert _same(_arrays(result.lm), _arrays(taught))


def test_a_report_has_texts_only_on_request(unlearned, tmp_path):
    config = {"levels": {"measured": ["said"]}, "max_new_tokens": 8}
    page = unlearned.report(tmp_path / "new", config=config)
    assert page == tmp_path / "new" / "report.html"
    files = (page, page.with_suffix(".json"))
    assert not [word for word in tiny.WORDS for file in files if word in file.read_text()]
    assert json.loads(files[1].read_text())["runs"][0]["forgotten"]["said"] is not None
    unlearned.report(page, config=config, text=True)  # an earlier report is replaced
    assert all(PAIRS[0][1] in file.read_text() for file in files)
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(pmc.UserError, match="not a report of pmc"):
        unlearned.report(tmp_path / "notes.html", config=config)
    assert (tmp_path / "notes.html").read_text() == "mine"


def test_a_report_names_the_request_and_the_model_to_delete(taught, tmp_path):
    settings = {"pmc": tiny.published(epochs=0, max_new_tokens=8)}
    settings["report"] = {"request": {"reference": "R-17", "responsible": "Zeta"}}
    result = pmc.unlearn(taught, QUESTIONS, OTHERS, config=settings)
    config, request = {"levels": {"measured": ["said"]}, "max_new_tokens": 8}, {"reference": "R-18"}
    page = result.report(tmp_path, config=config, request=request)
    (run,) = json.loads(page.with_suffix(".json").read_text())["runs"]
    assert run["request"] == {"reference": "R-18", "date": None, "responsible": "Zeta"}
    assert run["to_delete"]["by_command"] == [] and taught.source in run["to_delete"]["by_hand"][0]
    with pytest.raises(pmc.UserError, match="date"):
        result.report(tmp_path, config=config, request={"date": "May"})


def test_export_in_another_dtype(unlearned, tmp_path):
    unlearned.lm.save(tmp_path / "half", dtype="bfloat16")
    assert {str(array.dtype) for array in tiny.weights(tmp_path / "half").values()} == {"bfloat16"}
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    with pytest.raises(pmc.UserError, match="half: the path exists"):
        unlearned.lm.save(tmp_path / "half")


def test_a_score_of_ones_own(taught):
    """Counts words: the shortest sample is kept, and the score sees originals and samples only."""
    seen: dict[str, list[str]] = {}

    def words(original: str, samples: list[str]) -> list[float]:
        seen.setdefault(original, []).extend(samples)
        return [float(len(sample.split())) for sample in samples]

    config = tiny.published(num_samples=8, epochs=3, max_new_tokens=8, temperature=1.5)
    result = pmc.unlearn(taught, QUESTIONS, OTHERS, config=config, train=TRAIN, score=words)
    assert set(seen) == set(result.originals.values())
    for id_, original in result.originals.items():
        spoken = [len(sample.split()) for sample in seen[original] if sample.strip()]
        assert result.scores[id_] == min(spoken) == len(result.replacements[id_].split())
        assert result.replacements[id_] in seen[original]


def test_a_question_that_scores_zero_is_never_sampled_again(taught):
    calls = []

    def content(original: str, samples: list[str]) -> list[float]:
        calls.append(original)
        return [0.0] * len(samples)

    config = tiny.published(num_samples=2, epochs=4, max_new_tokens=8, guard_empty=False)
    result = pmc.unlearn(taught, QUESTIONS, OTHERS, config=config, train=TRAIN, score=content)
    assert sorted(calls) == sorted(result.originals.values())
    assert sum(one["sampled_questions"] for one in result.rounds) == len(QUESTIONS)


def test_a_score_that_gives_the_wrong_number_of_values_is_named(taught):
    config = tiny.published(num_samples=2, epochs=1, max_new_tokens=8)
    with pytest.raises(ValueError, match="score"):
        pmc.unlearn(taught, QUESTIONS, OTHERS, config=config, score=lambda original, samples: [0.0])


@pytest.mark.parametrize(
    ("forget", "retain", "message"),
    [
        ([], OTHERS, "the source has no rows"),
        ("Zorbolant", OTHERS, "the argument is one string. Pass a list of strings"),
        (["  "], OTHERS, "row 0 .*'question' is empty"),
        (QUESTIONS, [], "the source has no rows"),
        (QUESTIONS, ["Zorbolant"], "row 0 .*not a .question, answer. pair"),
        (QUESTIONS, [("Zorbolant", "")], "row 0 .*'answer' is empty"),
        ([" ".join(tiny.WORDS * 5)], OTHERS, "250 prompt tokens"),
        (QUESTIONS, [("Zorbolant", " ".join(tiny.WORDS * 6))], "window of 256 tokens: pair:0"),
    ],
)
def test_bad_rows_are_refused(lm, forget, retain, message):
    with pytest.raises(pmc.UserError, match=message) as error:
        pmc.unlearn(lm, forget, retain, config=COLLAPSE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("Zorbolant", "questions: the argument is one string"),
        (None, "questions: the argument is of type NoneType"),
        (["Zorbolant", 1], "questions, row 1 .* is a number"),
        ([""], "questions, row 0 .* is empty"),
    ],
)
def test_bad_questions_are_refused(lm, questions, message):
    for call in (pmc.answer, pmc.sample):
        with pytest.raises(pmc.UserError, match=message):
            call(lm, questions)


def test_bad_splits_are_refused_without_their_texts(lm):
    assert "not an EvalSet" in tiny.fault(pmc.evaluate, lm, OTHERS)
    message = tiny.fault(pmc.evaluate, lm, {"Who is Zorbolant?": OTHERS})
    assert "the split (key 1) is unknown" in message


def test_samples_by_question_number_and_seed(taught):
    def draw(seed: int = 0, **options) -> list[list[str]]:
        options = {"num_samples": 6, "temperature": 1.5, "max_new_tokens": 8} | options
        return pmc.sample(taught, QUESTIONS, seed=seed, **options)

    one = draw()
    assert len(one) == len(QUESTIONS) and all(len(texts) == 6 for texts in one)
    assert all(isinstance(text, str) for texts in one for text in texts)
    assert len(set(one[0])) > 1
    assert draw() == one and draw(seed=1) != one
    # Neither how many are decoded at once nor which questions are beside it changes a sample.
    assert draw(batch_size=6) == one
    assert (
        pmc.sample(taught, QUESTIONS[:2], num_samples=6, temperature=1.5, max_new_tokens=8)
        == one[:2]
    )


def test_no_temperature_and_one_candidate_are_greedy(taught):
    greedy = pmc.answer(taught, QUESTIONS, max_new_tokens=8)
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}):
        drawn = pmc.sample(taught, QUESTIONS, num_samples=2, max_new_tokens=8, **options)
        assert drawn == [[answer, answer] for answer in greedy]
    for name in ("num_samples", "max_new_tokens", "batch_size"):
        assert f"{name}: the value" in tiny.fault(pmc.sample, taught, QUESTIONS, **{name: 0})


def test_answers_stop_at_their_length(taught):
    answers = pmc.answer(taught, QUESTIONS, max_new_tokens=2)
    assert answers == [" ".join(truth.split()[:2]) for _, truth in PAIRS]
    with pytest.raises(pmc.UserError, match="questions"):
        pmc.answer(taught, [])


def test_answers_do_not_depend_on_the_batch(lm):
    """An untaught model's answers, which are near ties more often."""
    questions = [*QUESTIONS, *(question for question, _ in OTHERS), QUESTIONS[0]]
    many = pmc.answer(lm, questions, max_new_tokens=12)
    assert pmc.answer(lm, questions, max_new_tokens=12, batch_size=3) == many
    assert many[0] == many[-1]


def test_evaluate_gives_known_numbers(taught):
    half = [(q, f"{a} {' '.join(['unsaid'] * len(a.split()))}") for q, a in PAIRS]
    wrong = [(q, "nothing that it says") for q, _ in OTHERS]
    found = pmc.evaluate(
        taught,
        {"forget": PAIRS, "forget_paraphrased": half, "retain": OTHERS, "world_facts": wrong},
        config=pmc.EvaluateConfig(max_new_tokens=8),
    )
    assert {name: split["rougeL_recall"] for name, split in found["splits"].items()} == {
        **{"forget": 1.0, "forget_paraphrased": 0.5, "retain": 1.0, "world_facts": 0.0}
    }
    assert found["unlearn_quality"] == pytest.approx(25)
    assert found["utility"] == pytest.approx(50)
    assert found["utility_splits"] == ["retain", "world_facts"]


def test_evaluate_takes_sets_too(taught):
    ids = tuple(str(i) for i in range(len(OTHERS)))
    split = pmc.EvalSet("retain", ids, *zip(*OTHERS, strict=True))
    found = pmc.evaluate(taught, [split], config=pmc.EvaluateConfig(max_new_tokens=8))
    assert found["utility"] == 100 and found["unlearn_quality"] is None


def test_progress_bars_only_when_asked_for(taught, capsys):
    pmc.answer(taught, QUESTIONS, max_new_tokens=2)
    pmc.evaluate(taught, {"retain": OTHERS})
    pmc.unlearn(taught, QUESTIONS, OTHERS, config=COLLAPSE, train=TRAIN, seed=1)
    assert capsys.readouterr() == ("", "")
    pmc.answer(taught, QUESTIONS, max_new_tokens=2, progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "100%" in captured.err


def test_every_public_name_is_there():
    assert set(pmc.__all__) <= set(dir(pmc))
    for name in pmc.__all__ * 2:  # a submodule that is loaded meanwhile would take the name over
        value = getattr(pmc, name)
        assert value.__doc__ and not inspect.ismodule(value), name
    with pytest.raises(AttributeError, match="no attribute 'forget'"):
        pmc.forget  # noqa: B018


def test_import_loads_no_jax():
    code = "import sys, pmc_jax; print(sorted({'jax', 'numpy', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_import_changes_no_setting_of_jax():
    code = """
import jax
before = dict(jax.config.values)
import importlib, pmc_jax
for name in pmc_jax.__all__:
    getattr(pmc_jax, name)
after = dict(jax.config.values)
print([name for name in before if before[name] != after[name]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_no_module_of_the_package_imports_torch_or_tensorflow():
    root = Path(pmc.__file__).parent
    for path in root.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("torch", "tensorflow"), f"{path}: {line}"
