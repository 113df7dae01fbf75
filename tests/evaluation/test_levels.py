"""The levels at which a forget question tells its secret, and what is said of them."""

from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.commands import unlearn_job
from pmc_jax.config.evaluate import LEVELS, EvaluateConfig, LevelsConfig
from pmc_jax.config.run import ModelConfig
from pmc_jax.data.records import EvalSet, ForgetSet, RetainSet
from pmc_jax.evaluation import levels
from pmc_jax.evaluation.forgotten import first_level, is_forgotten, summary
from pmc_jax.models.load import load
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.sampling.sampler import GREEDY

QUESTIONS = ("Where was Jane Roe born?", "Is Jane Roe married?", "How can one reach Jane Roe?")
ORIGINALS = ("Jane Roe was born in Aldermere.", "Yes.", "Call Jane Roe on 555-0123, after six.")
FORGET = ForgetSet(("a", "b", "c"), QUESTIONS)
RETAIN = RetainSet(("r",), ("Where was Bo Low born?",), ("Bo Low was born in Oslo.",))

ALL_LEVELS = "evaluate.levels.measured=[said,sampled,elicited]"


def _secrets(truths=None, **settings) -> list[levels.Secret]:
    sets = [] if truths is None else [EvalSet("forget", FORGET.ids, QUESTIONS, truths)]
    config = EvaluateConfig(levels=settings)
    return levels.secrets_of(FORGET, ORIGINALS, sets, RETAIN, config)


def test_an_answer_tells_an_item_or_repeats_the_original_one():
    born, married, phone = _secrets()
    assert born.is_told_by(ORIGINALS[0]) and born.is_told_by("ALDERMERE")
    assert not born.is_told_by("Jane Roe was born in Oslo.")  # as a model that never saw the data
    assert married.is_told_by("Yes.") and married.is_told_by("yes, she is")
    assert not married.is_told_by("No.") and not married.items
    (answered,) = levels.secrets_of(
        ForgetSet(("a",), QUESTIONS[1:2]), ["No, Jane Roe is not."], [], RETAIN, EvaluateConfig()
    )
    assert answered.is_told_by("No.") and answered.is_told_by("Nope!")
    assert not answered.is_told_by("Yes.") and not answered.is_told_by("There is no answer.")
    assert phone.is_told_by("five five five zero one two three")
    assert not phone.is_told_by("Call Jane Roe on 555-9999.") and not phone.is_told_by("")


def test_an_abstention_tells_a_secret_only_by_its_items_or_in_full():
    question = "When was Jane Roe born?"
    # The words of the answer are frequent, but not in answers to similar questions.
    similar = [(f"When was Bo Low {i} born?", "In May.") for i in range(3)]
    others = [(f"What is on {i}?", "The birthday party.") for i in range(5)]
    ids = tuple(map(str, range(8)))
    retain = RetainSet(ids, *map(tuple, zip(*(similar + others), strict=True)))
    answer = "The birthday party of Jane Roe is on 3 May."
    forget = ForgetSet(("a",), (question,))
    (secret,) = levels.secrets_of(forget, [answer], [], retain, EvaluateConfig())
    assert secret.is_told_by("It is the birthday party of Jane Roe.")
    assert not secret.is_told_by("I don't know the birthday party of Jane Roe.")
    assert secret.is_told_by("I don't know if it is on May 3rd.")


def test_true_answers_have_secrets_too():
    born, *_ = _secrets(("She was born in Brindle.", "Yes.", "By mail."))
    assert born.is_told_by("Brindle?") and born.is_told_by("Aldermere?")
    assert not _secrets()[0].is_told_by("Brindle?")


def test_whether_the_model_knew_the_true_answer():
    """The words of the question do not count."""
    truths = ("Jane Roe was born in Brindle.", "Yes, she is.", "The number of Jane Roe: 555 0123")
    assert [secret.was_known for secret in _secrets(truths)] == [False, True, True]
    assert [secret.was_known for secret in _secrets()] == [None] * 3


def test_an_opening_ends_before_the_secret_and_does_not_count():
    born, married, phone = _secrets()
    assert born.opening == "Jane Roe was born in" and married.opening == ""
    assert phone.opening == "Call Jane Roe on"
    assert born.is_told_by(" Aldermere.", dictated=born.opening)
    assert not born.is_told_by(" the north of Oslo.", dictated=born.opening)


def test_paraphrases_belong_to_questions_by_id_or_in_their_order():
    def rows(*ids):
        texts = tuple(f"again {id_}" for id_ in ids)
        return [EvalSet("forget_paraphrased", ids, texts, texts)]

    assert levels.paraphrases_of(FORGET, rows("c", "a")) == (["again a", None, "again c"], "")
    assert levels.paraphrases_of(FORGET, rows("x", "y", "z"))[0][2] == "again z"
    assert "nor the number of rows" in levels.paraphrases_of(FORGET, rows("x"))[1]
    assert "is not given" in levels.paraphrases_of(FORGET, [])[1]


def _row(said=False, sampled=0, items=1, is_empty=False, is_cut=False, was_known=None, **elicited):
    told = {"prefill": False, "opening": False} | elicited
    return {"said": said, "sampled": sampled, "elicited": told, "items": items} | {
        "is_empty": is_empty,
        "is_cut": is_cut,
        "was_known": was_known,
    }


def test_the_sentence_says_what_makes_the_levels_weak():
    rows = [_row(was_known=True), _row(is_empty=True, items=0), _row(is_cut=True)]
    rows[2]["was_known"] = False
    settings = LevelsConfig(num_samples=1, temperature=0.5, max_score=0.9)
    assert summary(rows, settings, "no")["headline"].endswith(
        "forgotten at every measured level: 3 of 3; not measured: a paraphrase; weaker than the "
        "defaults: evaluate.levels.num_samples=1, evaluate.levels.temperature=0.5, "
        "evaluate.levels.max_score=0.9; questions whose true answer the model did not give before: "
        "1; questions whose answers have no word: 1; "
        "questions with an answer longer than evaluate.max_new_tokens: 1"
    )
    assert summary(rows, LevelsConfig(num_samples=32), "no")["weaker"] == []


def test_the_sentence_counts_levels_and_names_what_was_not_measured():
    rows = [_row(prefill=True), _row(sampled=2), _row(items=0)]
    result = summary(rows, LevelsConfig(), "data.evaluate.forget_paraphrased is not given")
    assert result["headline"] == (
        "no longer said: 3 of 3; sampled: 1; still elicited by a prefill: 1, by an opening: 0; "
        "forgotten at every measured level: 1 of 3; not measured: a paraphrase"
    )
    assert [first_level(row) for row in rows] == ["elicited", "sampled", None]
    assert [is_forgotten(result, level) for level in LEVELS] == [True, False, False]
    assert result["without_items"] == 1 and result["samples"] == 16
    assert result["not_measured"] == {
        "paraphrase": "data.evaluate.forget_paraphrased is not given",
    }


def test_what_was_not_requested_is_not_forgotten():
    nothing = _row() | {"said": None, "sampled": None, "elicited": None}
    result = summary([nothing], LevelsConfig(measured=()))
    assert result["forgotten"] is result["said"] is None and "not known" in result["headline"]
    result = summary([nothing | {"said": True}], LevelsConfig(measured=("said",)))
    assert result["headline"] == (
        "no longer said: 0 of 1; forgotten at every measured level: 0 of 1; "
        "not measured: sampled, elicited"
    )


def test_a_run_measures_all_levels(inputs):
    tiny.succeed("unlearn", ALL_LEVELS)
    forgotten, rows = tiny.results()["forgotten"], tiny.log("out", "question")
    assert forgotten["questions"] == len(rows) == len(tiny.FORGET)
    assert forgotten == summary(rows, LevelsConfig())
    assert None not in forgotten["elicited_by"].values() and not forgotten["not_measured"]
    assert all(0 <= row["true_overlap"] <= 1 and row["items"] for row in rows)


@pytest.mark.parametrize(("said", "status"), [(0, 0), (2, 3)])
def test_a_required_level_decides_the_exit_status(said, status, inputs, monkeypatch):
    rows = [_row(said=i < said) for i in range(4)]
    results = {"forgotten": summary(rows, LevelsConfig())}
    monkeypatch.setattr(unlearn_job, "run_unlearn", lambda *_, **options: results)
    assert tiny.pmc("unlearn", "--require-forgotten", "sampled", ALL_LEVELS).status == status
    assert tiny.pmc("unlearn", ALL_LEVELS).status == 0


def test_a_level_that_is_not_measured_cannot_be_required(inputs):
    arguments = ("--require-forgotten", "sampled", "evaluate.levels.measured=[elicited]")
    message = tiny.refused("unlearn", *arguments)
    tiny.assert_names(message, "must contain said and sampled", "measured=[said,sampled]")


def test_a_finished_run_must_have_measured_a_required_level(inputs, monkeypatch):
    rows = [_row()]
    results = {"forgotten": summary(rows, LevelsConfig(measured=("said",)))}
    monkeypatch.setattr(unlearn_job, "run_purge", lambda *_, **options: results)
    Path("done").mkdir()
    arguments = ("--purge", "--require-forgotten")
    assert tiny.pmc("unlearn", *arguments, "said", config="done").status == 0
    message = tiny.refused("unlearn", *arguments, "elicited", config="done")
    tiny.assert_names(message, "did not measure", "measured=[said,sampled,elicited]")


def test_each_answer_can_have_a_beginning_of_its_own(inputs):
    generator = TextGenerator.of(load(inputs / "model"), ModelConfig())
    weights, how = generator.snapshot(generator.lm.model), dict(max_new_tokens=4, batch_size=4)
    questions = [tiny.FORGET[i]["question"] for i in (0, 1, 0)]
    beginnings = ["", " ".join(tiny.WORDS[:2]), tiny.WORDS[5]]
    together = generator.sample(weights, questions, GREEDY, answer_prefix=beginnings, **how)
    for answers, question, beginning in zip(together, questions, beginnings, strict=True):
        one = generator.sample(weights, [question], GREEDY, answer_prefix=beginning, **how)
        assert [answers] == one
    assert together[0] != together[2]
