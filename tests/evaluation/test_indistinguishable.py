"""The measure `indistinguishable`: its questions, what is kept and when it has power."""

import dataclasses

import numpy as np
import pytest

from pmc_jax.config.data import DataConfig
from pmc_jax.config.run import EvaluateConfig
from pmc_jax.config.schema import SettingsError, build
from pmc_jax.data.records import EvalSet
from pmc_jax.evaluation import harness
from pmc_jax.evaluation.context import AnswerCache, EvalContext, LoadedModel, ModelRef

SETTINGS = EvaluateConfig(measures=("indistinguishable",))
FORGET = EvalSet(
    "forget", ("f0",), ("Where does Orla Brandel live?",), ("Orla lives in Velamora.",)
)
QUESTIONS = tuple(f"In which town is the home of person {i}?" for i in range(40))
FACTS = ("Miravia", "Corinova", "Lunomere", "Thalivern")


def paraphrased(count: int = 40) -> EvalSet:
    """Returns `count` questions, a forget question, and one of the questions again."""
    questions = (*QUESTIONS[:count], *FORGET.questions, QUESTIONS[0])
    ids = tuple(f"p{i}" for i in range(len(questions)))
    return EvalSet("forget_paraphrased", ids, questions, ("In Velamora.",) * len(questions))


def model(seed: int, knows: bool = False, loaded: list[str] | None = None) -> ModelRef:
    """Returns a model that has answered all questions, and notes in `loaded` when it is loaded."""
    draw = np.random.default_rng(seed)
    questions = (*QUESTIONS, *FORGET.questions)
    answers = {q: f"The home is a town called {draw.choice(FACTS)}." for q in questions}
    if knows:
        answers = {q: f"In Velamora, near the {i}th bridge." for i, q in enumerate(questions)}
    cache = AnswerCache({SETTINGS.max_new_tokens: answers})

    def load(name: str) -> LoadedModel:
        if loaded is not None:
            loaded.append(name)
        return LoadedModel(name, None, cache)

    return ModelRef("folder", f"sha {seed}", load)


def context(*, questions: int = 40, models: int = 5, loaded: list[str] | None = None):
    sets = {"forget": FORGET, "forget_paraphrased": paraphrased(questions)}
    refs = tuple(model(10 + i, loaded=loaded) for i in range(models))
    return EvalContext(sets, None, SETTINGS, DataConfig(), never_saw=refs)


def of(evaluation, name="after"):
    return evaluation["measures"]["indistinguishable"][name]


def test_a_model_that_never_saw_the_data_is_inside_and_the_target_is_not():
    models = {"before": model(0, knows=True), "after": model(1), "reference": model(2)}
    evaluation = harness.evaluate(models, context())
    for name, inside in (("before", 0.0), ("after", 1.0)):
        result = of(evaluation, name)
        assert not result["missing"] and result["values"]["inside"] == inside
        # The forget question and the repeated question do not count.
        assert result["values"]["questions"] == 40
    assert of(evaluation, "before")["values"]["p"] < 0.01 < of(evaluation)["values"]["p"]
    assert "distance.highest" in of(evaluation, "reference")["values"]


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, model(0)])
def test_no_power(before):
    models = {"after": model(1)} | ({} if before is None else {"before": before})
    result = of(harness.evaluate(models, context()))
    reason = "no model before unlearning" if before is None else "no power"
    assert reason in result["missing"]["inside"] and "auc" in result["values"]


def test_too_few_questions_or_models():
    for how, reason in (({"questions": 39}, "has 39"), ({"models": 4}, "has 4")):
        evaluation = harness.evaluate({"after": model(1)}, context(**how))
        assert reason in evaluation["not_computed"]["indistinguishable"]
        assert "indistinguishable" not in evaluation["measures"]


@pytest.mark.slow
def test_rows_hold_numbers_and_depend_on_the_models(tmp_path):
    loaded: list[str] = []
    models = {"after": model(1, loaded=loaded)}
    first = harness.evaluate(models, context(loaded=loaded), folder=tmp_path)
    assert loaded == ["after", *["never saw"] * 5]
    text = (tmp_path / "after.two_sample.jsonl").read_text()
    assert not [fact for fact in FACTS if fact in text]
    again = harness.evaluate(models, context(loaded=loaded), folder=tmp_path)
    assert of(again) == of(first) and len(loaded) == 6
    other = context(loaded=loaded)
    other = dataclasses.replace(other, never_saw=(*other.never_saw[:4], model(30, loaded=loaded)))
    assert of(harness.evaluate(models, other, folder=tmp_path)) != of(first)


def test_a_folder_that_is_named_twice_is_refused():
    with pytest.raises(SettingsError, match="never_saw: the list names a folder twice"):
        build(EvaluateConfig, {"never_saw": ["a", "b", "a"]}, where="x", faults=[])
