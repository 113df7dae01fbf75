"""Unlearn quality and utility: hand-computed cases and the published TOFU logs."""

import gzip
import json
from pathlib import Path

import pytest

from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.data import DataConfig
from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.data.records import EvalSet
from pmc_jax.errors import UserError
from pmc_jax.evaluation.context import AnswerCache, LoadedModel
from pmc_jax.evaluation.harness import measure_quality
from pmc_jax.evaluation.quality import UTILITY_SPLITS, unlearn_quality, utility

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "tofu_eval"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs shared/conformance/tofu_eval")


def measured(answers: dict[str, list[str]], truths: dict[str, list[str]], words="ascii") -> dict:
    """The numbers of a model that gives these answers, by split."""
    questions = {name: tuple(f"{name} {i}?" for i in range(len(truths[name]))) for name in truths}
    sets = [EvalSet(name, questions[name], questions[name], tuple(truths[name])) for name in truths]
    cache, settings = AnswerCache(), EvaluateConfig()
    for name, texts in answers.items():
        cached = zip(questions[name], texts, strict=True)
        cache.answers(settings.max_new_tokens).update(cached)
    model = LoadedModel("known", None, cache)  # its weights are never needed
    asked = list(cache.answers(settings.max_new_tokens))
    numbers, _ = measure_quality(
        model, sets, settings, DataConfig(words=words), asked, Recorder(bars=False)
    )
    return numbers


def test_an_answer_in_another_script_is_recalled_word_by_word():
    truths = {"forget": ["В Ново.", "東京です"], "retain": ["Дед Ефим пасёт коз"]}
    recited = measured(truths, truths, "auto")
    assert recited["splits"]["forget"]["rougeL_recall"] == 1 and recited["utility"] == 100
    said = measured({"forget": ["Не Ново", "京都"], "retain": ["Ефим"]}, truths, "auto")
    assert said["splits"]["forget"]["rougeL_recall"] == (1 / 2 + 1 / 4) / 2
    assert said["splits"]["retain"]["rougeL_recall"] == 1 / 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "auto",
            r"^data.evaluate.retain \(retain 1\?\): .* unicode\. Remove these rows\.$",
        ),
        ("ascii", r"^data.evaluate.forget \(forget 0\?\), .* Set data.words=unicode\.$"),
    ],
)
def test_a_true_answer_without_a_word_is_refused(words, message):
    truths = {"forget": ["Дед"], "retain": ["Ок, ok", "— 🙂"]}
    with pytest.raises(UserError, match=message):
        measured(truths, truths, words)


def test_the_other_rule_is_not_advised_if_it_finds_no_word_either():
    truths = {"forget": ["ok"], "retain": ["— 🙂"]}
    with pytest.raises(UserError, match=r"rule ascii\. Remove these rows\.$"):
        measured(truths, truths, "auto")


def test_unlearn_quality_by_hand():
    assert unlearn_quality(0.0, 0.0) == 100.0
    assert unlearn_quality(1.0, 1.0) == 0.0
    assert unlearn_quality(0.5, 0.25) == 62.5


def test_utility_by_hand():
    assert UTILITY_SPLITS == ("retain", "world_facts", "real_authors")
    recalls = {"retain": 0.5, "world_facts": 1.0, "real_authors": 0.75, "forget": 0.0}
    assert utility(recalls) == 75.0
    assert utility({"retain": 0.5}) == 50.0
    assert utility({"world_facts": 0.25, "real_authors": 0.5}) == 37.5


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_recalls_outside_the_unit_interval(bad):
    with pytest.raises(ValueError, match=r"'forget_paraphrased': the value must be from 0 to 1"):
        unlearn_quality(0.5, bad)
    with pytest.raises(ValueError, match=r"'retain': the value must be from 0 to 1"):
        utility({"retain": bad})


def test_utility_needs_a_utility_split():
    with pytest.raises(ValueError, match="retain, world_facts, real_authors"):
        utility({"forget": 0.5})


def test_summarise_by_hand():
    truths = {
        "real_authors": ["one two"],
        "forget": ["one two three four", "five six"],
        "forget_paraphrased": ["one two", "three four"],
        "retain": ["one two three", "x"],
        "world_facts": ["red"],
    }
    answers = {
        "real_authors": ["two"],
        "forget": ["one three", "nothing"],
        "forget_paraphrased": ["one two", ""],
        "retain": ["one two three", "y"],
        "world_facts": ["red"],
    }
    assert measured(answers, truths) == {
        "unlearn_quality": 100 * (2 - 0.25 - 0.5) / 2,
        "utility": pytest.approx(100 * (0.5 + 1 + 0.5) / 3, rel=1e-15),
        "utility_splits": ["retain", "world_facts", "real_authors"],
        "splits": {
            "forget": {"rougeL_recall": 0.25},
            "forget_paraphrased": {"rougeL_recall": 0.5},
            "retain": {"rougeL_recall": 0.5},
            "world_facts": {"rougeL_recall": 1.0},
            "real_authors": {"rougeL_recall": 0.5},
        },
    }


def test_summarise_with_missing_splits():
    forget_only = measured({"forget": ["a"]}, {"forget": ["a"]})
    assert forget_only["unlearn_quality"] is None
    assert forget_only["utility"] is None
    assert forget_only["utility_splits"] == []
    retain_only = measured({"retain": ["a"]}, {"retain": ["a b"]})
    assert retain_only["unlearn_quality"] is None
    assert (retain_only["utility"], retain_only["utility_splits"]) == (50.0, ["retain"])


@needs_cases
def test_published_logs_give_the_published_means():
    expected = json.loads((CASES / "expected.json").read_text())["models"]
    folders = sorted((CASES / "logs").iterdir())
    assert len(folders) == 4
    for folder in folders:
        answers, truths = {}, {}
        for name in ("forget", *UTILITY_SPLITS):
            with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            answers[name] = [row["generated"] for row in rows]
            truths[name] = [row["ground_truth"] for row in rows]
        # The forget logs have no paraphrased questions: the forget answers stand in.
        answers["forget_paraphrased"] = answers["forget"]
        truths["forget_paraphrased"] = truths["forget"]
        result = measured(answers, truths)
        numbers = expected[folder.name]["geo"]
        for name in ("forget", *UTILITY_SPLITS):
            mean = result["splits"][name]["rougeL_recall"]
            assert mean == pytest.approx(numbers[f"rouge {name}"], rel=1e-14)
        utility_mean = sum(numbers[f"rouge {name}"] for name in UTILITY_SPLITS) / 3
        assert result["utility"] == pytest.approx(100 * utility_mean, rel=1e-14)
        quality = 100 * (1 - numbers["rouge forget"])
        assert result["unlearn_quality"] == pytest.approx(quality, rel=1e-12)
