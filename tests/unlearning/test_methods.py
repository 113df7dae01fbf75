"""Runs of other methods, and PMC's own ways to begin gently, to stop and to insist."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_runs as tiny

import pmc_jax
from pmc_jax.config.run import Config, MethodConfig
from pmc_jax.data.encode import TokenSequence
from pmc_jax.data.records import ForgetAnswerSet, ForgetSet
from pmc_jax.errors import UserError
from pmc_jax.scoring.rouge import rougeL_recall
from pmc_jax.training.losses import METHODS
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning.answer_source import ForgetAnswerSource
from pmc_jax.unlearning.pmc_source import PMCSource
from pmc_jax.unlearning.stopping import ForgetTest

TARGETS = {"data.forget_answers.path": "forget.jsonl"}
# The losses of the others, and their steps, are those of tests/training/test_losses.py.
USUAL = ("idk", "retain_only", "gradient_difference", "dpo", "undial")
BASELINES = [
    name if name in USUAL else pytest.param(name, marks=pytest.mark.slow)
    for name in METHODS
    if not name.startswith("pmc")
]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A model that was taught the forget and the retain answers, as `taught/`."""
    folder = tiny.write_inputs(tmp_path_factory.mktemp("methods"), finetune=tiny.FINETUNE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.succeed("finetune")
        Path("out/target").rename("taught")
        Path("out").rmdir()
        tiny.write_settings(
            folder / "run.yaml",
            model={"path": "taught"},
            train={"batch_size": 3, "learning_rate": 1e-3},
        )
    return folder


@pytest.fixture
def unlearn(world, tmp_path, monkeypatch):
    """Runs with other settings into a folder of its own; what its results hold."""
    monkeypatch.chdir(world)

    def run(**settings) -> dict:
        given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
        tiny.succeed("unlearn", *given, f"output.dir={tmp_path / 'out'}", "--overwrite")
        return tiny.results(tmp_path / "out")

    return run


def settings_of(name: str) -> dict:
    return {"method.name": name} | (TARGETS if METHODS[name].reads_true_answers else {})


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_of_each_method(name, unlearn, world, tmp_path):
    refusal = world / "refusal.txt"  # in words that the tiny tokenizer knows
    refusal.write_text(f"{tiny.WORDS[0]} {tiny.WORDS[1]}")
    found = unlearn(
        **settings_of(name), **{"pmc.schedule.epochs": 10, "method.refusals": str(refusal)}
    )
    assert found["before"]["splits"]["forget"]["rougeL_recall"] == 1
    assert found["tokens"]["sampled"] == 0 and len(found["rounds"]) == 20
    last = found["rounds"][-1]
    assert {f"{term}_loss" for term in METHODS[name].terms} <= set(last)
    forget = found["after"]["splits"]["forget"]["rougeL_recall"]
    assert forget == 1 if name == "retain_only" else forget < 1
    if "retain" in METHODS[name].terms and name != "rmu":
        assert found["after"]["splits"]["retain"]["rougeL_recall"] > forget or forget == 1
    assert not tiny.same_weights(tmp_path / "out" / "model", world / "taught")


def test_true_answers_are_needed_where_they_are_targets(world, monkeypatch, tmp_path):
    monkeypatch.chdir(world)
    out = f"output.dir={tmp_path / 'out'}"
    done = tiny.pmc("unlearn", "method.name=npo", out)
    assert done.status == 2 and "data.forget_answers.path is not set" in done.err
    done = tiny.pmc("unlearn", "method.name=npo", "data.forget_answers.path=retain.jsonl", out)
    assert (
        done.status == 2 and "row 0 (counted from 0); the numbers of rows are 8 and 6" in done.err
    )
    done = tiny.pmc("unlearn", "method.name=rmu", "method.layer=9", out,
                    "data.forget_answers.path=forget.jsonl")  # fmt: skip
    assert done.status == 2 and "from 1 to 2, but it is 9" in done.err
    assert not (tmp_path / "out").exists()


def test_a_method_goes_on_where_it_was_interrupted(unlearn, world, tmp_path):
    whole = unlearn(**settings_of("dpo"), **{"pmc.schedule.epochs": 4})
    again = tmp_path / "again"
    arguments = [f"{k}={json.dumps(v)}" for k, v in settings_of("dpo").items()]
    arguments += ["pmc.schedule.epochs=4", f"output.dir={again}", "output.checkpoint_every=1"]
    from pmc_jax.training.trainer import Trainer

    with tiny.crashing(Trainer, "step", 5):
        tiny.pmc("unlearn", *arguments)
    tiny.succeed("unlearn", *arguments)
    assert tiny.results(again)["rounds"] == whole["rounds"]
    assert tiny.same_weights(again / "model", tmp_path / "out" / "model")


def test_a_run_stops_when_its_seconds_are_over(unlearn):
    found = unlearn(**{"method.name": "retain_only", "method.max_seconds": 1e-6})
    assert found["stopped"] == "the limit method.max_seconds=1e-06 is reached"
    assert len(found["rounds"]) == 1 and found["rounds"][0]["step"] == 1
    assert found["unlearning_seconds"] >= 1e-6
    whole = {"train.batch_size": 6, "pmc.schedule.epochs": 1}  # The last step ends no run early.
    found = unlearn(**{"method.name": "retain_only", "method.max_seconds": 1e-6} | whole)
    assert found["total_steps"] == 1 and found["stopped"] is None


def test_a_forget_question_with_a_long_row_cannot_be_dropped():
    generator = SimpleNamespace(
        prompts=lambda questions, *_, **__: [[1]] * len(questions),
        encoder=SimpleNamespace(before_answer=list),
        sequences=lambda *_, ids: [TokenSequence(np.arange(2), 1, ids[0])],
    )
    config = Config(method=MethodConfig(name="gradient_ascent"))
    rows = (("q0", "q1"), ("Who?", "Where?"))
    answers = ForgetAnswerSet(*rows, ("Bo.", "Here."))
    with pytest.raises(UserError, match=r"1 of 2 .* \(q1\).* data\.max_length"):
        how = dict(originals=("", ""), config=config)
        ForgetAnswerSource(generator, ForgetSet(*rows), answers, (), **how)


def test_evaluations_at_given_seconds(unlearn):
    found = unlearn(**{"evaluate.at_seconds": [1e-6, 1e9], "pmc.schedule.epochs": 2})
    measured = [one for one in found["rounds"] if "utility" in one]
    assert [one["step"] for one in measured] == [1]  # once for the first, never for the last
    assert measured[0]["unlearning_seconds"] > 1e-6
    assert found["stopped"] is None


def test_pmc_stops_when_nothing_is_left(unlearn, world, tmp_path, monkeypatch):
    # The tiny model knows so few words that each of its answers has one of the original answers.
    monkeypatch.setattr(ForgetTest, "passes", lambda *_: True)
    rule = {
        "pmc.stop.enabled": True,
        "pmc.stop.max_retain_increase": 1.0,
        "pmc.stop.decay": 0.5,
        "pmc.schedule.epochs": 100,
        "output.checkpoint_every": 1,
    }
    found = unlearn(**rule)
    assert found["stopped"] == "all questions were forgotten and the retain loss had recovered"
    last = found["rounds"][-1]
    assert last["unreplaced"] == 0 and last["step"] == found["step"] < 200
    scalars = [row for row in tiny.log(tmp_path / "out", "scalars") if "learning_rate" in row]
    rates = [row["learning_rate"] for row in scalars]
    begin = 2 * found["step"] // 3
    expected = [rates[begin] * (1 - i / (len(rates) - begin)) for i in range(len(rates) - begin)]
    assert rates[begin:] == pytest.approx(expected, rel=1e-6)
    folder = tmp_path / "cut"
    given = [f"{name}={json.dumps(value)}" for name, value in rule.items()]
    with tiny.crashing(Trainer, "step", found["step"] - 1):
        tiny.pmc("unlearn", *given, f"output.dir={folder}")
    tiny.succeed("unlearn", *given, f"output.dir={folder}")
    assert tiny.results(folder)["step"] == found["step"]
    assert tiny.same_weights(folder / "model", tmp_path / "out" / "model")
    never = unlearn(**(rule | {"pmc.stop.max_retain_increase": 0.0, "pmc.schedule.epochs": 4}))
    assert never["stopped"] is None and never["rounds"][-1]["step"] == 8


def test_more_retain_rows(unlearn):
    plain = unlearn(**{"pmc.schedule.epochs": 4, "pmc.schedule.lambda_retain": 1.0})
    more = unlearn(
        **{
            "pmc.schedule.epochs": 4,
            "pmc.schedule.lambda_retain": 1.0,
            "pmc.schedule.retain_rows": 3,
        }
    )
    assert more["tokens"]["trained"] > 1.7 * plain["tokens"]["trained"]


def test_a_round_samples_again_until_something_can_be_trained_on(unlearn):
    settings = {
        "pmc.schedule.epochs": 3,
        "pmc.sampling.num_samples": 2,
        "pmc.selection.max_train_score": 0.3,
    }
    once = unlearn(**settings)
    often = unlearn(**settings, **{"pmc.sampling.max_attempts": 4})
    first, again = once["rounds"][0], often["rounds"][0]
    assert first["sampled_questions"] == 3 < again["sampled_questions"] <= 12
    assert again["mean_score"] < first["mean_score"]
    assert again["collapse_loss"] > 0


def test_an_answer_is_shared_by_questions_that_it_is_good_enough_for(unlearn, tmp_path):
    rule = {
        "pmc.schedule.epochs": 3,
        "pmc.selection.max_train_score": 0.3,
        "pmc.sampling.max_attempts": 4,
        "log.text": True,
    }

    def stored(**settings) -> list[dict]:
        unlearn(**rule, **settings)
        rows = tiny.log(tmp_path / "out", "question")
        return [row for row in rows if row["score"] <= 0.3]

    apart, shared = stored(), stored(**{"pmc.selection.share_answers": True})
    assert len({row["stored"] for row in apart}) > 2 * len({row["stored"] for row in shared})
    assert len(shared) >= len(apart) > 3
    for row in shared:  # of this question, not of the one that it was sampled for
        assert row["score"] == rougeL_recall(row["original"], row["stored"])


@pytest.fixture
def trained(unlearn, monkeypatch):
    """Runs 24 forget rows; of each the sequence, the whole prompt, the original and the stored
    answer.
    """

    def run(**settings) -> list[tuple]:
        seen, rows = [], PMCSource.rows

        def watched(self, step, retain):
            found = rows(self, step, retain)
            ids = [self.ids[i] for i in step.forget]
            wholes = [self.prompts[i] for i in step.forget]
            answer = self._generator.encoder.answer
            originals = [answer(self.originals[id_]) for id_ in ids]
            stored = [answer(self.store.answer(id_)) for id_ in ids]
            sequences = found["collapse"].sequences
            seen.extend(zip(sequences, wholes, originals, stored, strict=True))
            return found

        monkeypatch.setattr(PMCSource, "rows", watched)
        unlearn(**{"pmc.schedule.epochs": 4}, **settings)
        assert len(seen) == 24
        return seen

    return run


@pytest.mark.parametrize("dropout", [0, 0.5])
def test_answers_are_trained_on_beside_questions_without_some_words(trained, dropout):
    seen = trained(**{"pmc.augmentation.question_word_dropout": dropout})
    for sequence, whole, _, answer in seen:
        prompt = sequence.tokens[: sequence.begin].tolist()
        rest = iter(whole)
        assert all(token in rest for token in prompt)
        assert sequence.tokens[sequence.begin :].tolist() == answer
    shorter = sum(sequence.begin < len(whole) for sequence, whole, *_ in seen)
    assert 4 < shorter < 20 if dropout else shorter == 0


def test_answers_are_trained_on_after_the_beginning_of_the_original_one(trained):
    """The beginning is no part of what is trained on."""
    seen, prefixed = (
        trained(
            **{"pmc.augmentation.answer_prefix": 0.5, "pmc.augmentation.question_word_dropout": 0}
        ),
        0,
    )
    for sequence, whole, original, answer in seen:
        tokens = sequence.tokens.tolist()
        assert tokens[: len(whole)] == whole
        opening = tokens[len(whole) : sequence.begin]
        assert opening == original[: len(opening)] and len(opening) < max(len(original) - 1, 1)
        assert tokens[sequence.begin :] == answer
        prefixed += bool(opening)
    assert 6 <= prefixed <= 18


def test_perplexity_refuses_what_the_model_finds_unlikely(unlearn):
    """At a perplexity of 1 only certain tokens would be left: nothing is."""
    plain = unlearn(**{"pmc.schedule.epochs": 2})
    loose = unlearn(**{"pmc.schedule.epochs": 2, "pmc.selection.max_perplexity": 1e6})
    assert loose["rounds"][0]["mean_score"] == plain["rounds"][0]["mean_score"]
    strict = unlearn(**{"pmc.schedule.epochs": 2, "pmc.selection.max_perplexity": 1.0})
    assert strict["rounds"][0]["mean_score"] == 1 > plain["rounds"][0]["mean_score"]


def test_questions_that_were_never_trained_on_are_named(unlearn, caplog):
    unlearn(**{"pmc.schedule.epochs": 2})
    assert "No replacement answer" not in caplog.text
    unlearn(
        **{
            "pmc.schedule.epochs": 2,
            "pmc.selection.max_perplexity": 1.0,
            "pmc.selection.max_train_score": 0.5,
        }
    )
    (line,) = [each for each in caplog.messages if "No replacement answer" in each]
    assert line.startswith("No replacement answer was found for 6 of 6 forget questions (forget:")
    tiny.assert_names(
        line,
        "a score of at most 0.5",
        "pmc.selection.max_train_score",
        "pmc.selection.max_perplexity",
        ", ...",
    )


def test_probe_measures_the_reward_and_changes_nothing(unlearn, tmp_path):
    plain = unlearn(**{"pmc.schedule.epochs": 3})
    (tmp_path / "out" / "model").rename(tmp_path / "plain")
    found = unlearn(**{"pmc.schedule.epochs": 3, "pmc.reward_samples": 4})
    assert plain["reward_moments"] is None and tiny.same_weights(
        tmp_path / "plain", tmp_path / "out" / "model"
    )
    moments = found["reward_moments"]["moments"]
    assert [one["step"] for one in moments] == list(range(7))
    start = np.array(found["reward_moments"]["start"])
    assert start.shape == (6, 4)
    assert moments[0]["exp_reward_mean"] == pytest.approx(np.exp(1 - start).mean())
    assert moments[-1]["exp_reward_mean"] > moments[0]["exp_reward_mean"]


def test_alignment_teaches_refusals(unlearn, world):
    refusals = world / "refusals.txt"
    refusals.write_text(" ".join(tiny.WORDS[:3]) + "\n")
    settings = {"method.refusals": str(refusals), "pmc.score.min_len": 2}
    found = unlearn(**{"method.name": "pmc_alignment"}, **settings)
    assert found["rounds"][0]["refusal_loss"] > 0
    manifest = json.loads((Path(found["config"]["output"]["dir"]) / "manifest.json").read_text())
    assert manifest["inputs"]["method.refusals"]["path"] == str(refusals)


def test_a_second_request_keeps_the_first_forgotten(unlearn, world, tmp_path):
    """The forget rows in two halves, one run on the output of the other."""
    halves = [tiny.FORGET[:3], tiny.FORGET[3:]]
    for i, half in enumerate(halves):
        tiny.write_rows(world / f"half{i}.jsonl", half)
    first = unlearn(**{"data.forget.path": "half0.jsonl", "pmc.schedule.epochs": 32})
    (tmp_path / "out" / "model").rename(tmp_path / "first")
    second = unlearn(
        **{"data.forget.path": "half1.jsonl", "pmc.schedule.epochs": 32},
        **{"model.path": str(tmp_path / "first"), "data.evaluate.forget.path": "half0.jsonl"},
    )
    before, after = (second[moment]["splits"] for moment in ("before", "after"))
    assert first["before"]["splits"]["forget"]["rougeL_recall"] == 1
    assert before["forget"]["rougeL_recall"] <= 0.5  # the first half was forgotten
    assert after["forget"]["rougeL_recall"] <= 0.5  # and is not back
    assert (
        before["forget_paraphrased"]["rougeL_recall"] > after["forget_paraphrased"]["rougeL_recall"]
    )


def test_baselines_from_python(world, monkeypatch):
    monkeypatch.chdir(world)
    lm = pmc_jax.load("taught")
    pairs = [(row["question"], row["answer"]) for row in tiny.FORGET]
    retain = [(row["question"], row["answer"]) for row in tiny.RETAIN]
    train = pmc_jax.TrainConfig(batch_size=3, learning_rate=1e-3)
    options = dict(config=tiny.published(epochs=8, max_new_tokens=8), train=train)
    result = pmc_jax.unlearn(lm, pairs, retain, method="npo", **options)
    answers = result.answer([q for q, _ in pairs], max_new_tokens=8)
    assert [a for a, (_, truth) in zip(answers, pairs, strict=True) if a != truth]
    assert len(result.rounds) == 16
    with pytest.raises(pmc_jax.UserError, match="'question' is"):
        pmc_jax.unlearn(lm, pairs, retain, method="pmc")
    settings = pmc_jax.MethodConfig(name="idk")
    questions = [q for q, _ in pairs]
    other = pmc_jax.unlearn(lm, questions, retain, method=settings, **options)
    assert dataclasses.asdict(settings)["name"] == "idk" and "refusal_loss" in other.rounds[0]
