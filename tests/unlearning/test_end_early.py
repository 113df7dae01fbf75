"""Samples that end early because no step would train on them: nothing else of a run changes."""

import contextlib
from pathlib import Path

import pytest
import tiny_runs as tiny

from pmc_jax.scoring.base import checked, lower_bound
from pmc_jax.scoring.registry import run_score
from pmc_jax.unlearning.selection import Selector

ROWS = tiny.rows(6, seed=3, answer=12)
# A third of the samples find a slot at once, so samples end at different times.
PMC = {"num_samples": 8, "epochs": 3, "max_new_tokens": 40, "temperature": 1.3, "batch_size": 16}
WITHIN = {"max_train_score": 0.2, "max_attempts": 3}
CASES = {
    "the first of the best": {"prefer": "first", "private_words": False, "max_attempts": 2},
    "fewest secrets": {"prefer": "least", "threshold": 0.3, "min_len": 60},
    "incoherent samples": {
        "prefer": "least",
        "weights": {"rougeL_recall": 1.0, "rouge1_recall": 2.0},
        "max_repetition": 0.05,
        "max_perplexity": 50.0,
        "max_attempts": 2,
    },
    "only good answers": {"name": "rouge1_recall", "max_repetition": 0.05, **WITHIN},
    "shared answers": {"share_answers": True, "lambda_retain": 4.0, **WITHIN},
}


def unlearn(folder: Path, settings: dict, *overrides: str) -> dict:
    folder.mkdir()
    tiny.write_inputs(folder, pmc=PMC | settings, log={"text": True})
    tiny.write_rows(folder / "forget.jsonl", ROWS)
    with contextlib.chdir(folder):
        tiny.succeed("unlearn", *overrides)
    return tiny.results(folder / "out")


def stored(folder: Path, limit: float) -> list[tuple]:
    rows = tiny.log(folder / "out", "question")
    return [(row["id"], row["stored"], row["score"]) for row in rows if row["score"] <= limit]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if i in (1, 3) else ())
        for i, case in enumerate(CASES)
    ],
)
def test_weights_and_stored_answers_are_the_same(case, tmp_path):
    settings, limit = CASES[case], CASES[case].get("max_train_score", 1.0)
    early = unlearn(tmp_path / "early", settings)
    late = unlearn(tmp_path / "late", settings, "pmc.sampling.end_early=false")
    assert early["tokens"]["ended_early"] > 0 == late["tokens"]["ended_early"]
    assert early["tokens"]["sampled"] < late["tokens"]["sampled"]
    assert tiny.same_weights(tmp_path / "early/out/model", tmp_path / "late/out/model")
    assert stored(tmp_path / "early", limit) == stored(tmp_path / "late", limit)
    for one, other in zip(early["rounds"], late["rounds"], strict=True):
        assert one["score_mean"] is None or one["score_mean"] <= other["score_mean"]


def selector(**settings) -> Selector:
    forget = tiny.ForgetSet(("a",), ("Where does Ada live?",))
    retain = tiny.RetainSet(("r",), ("Where is it?",), ("It is here.",))
    return tiny.selector(tiny.pmc_config(**settings), forget, ["In Porto."], retain)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"name": "forbidden", "forbidden": ("x y",), "forbidden_similarity": 100.0}, True),
        ({"name": "forbidden", "forbidden": ("private",)}, False),
        ({"name": "chrf"}, False),
        ({"weights": {"rougeL_recall": 1.0, "chrf": 1.0}}, False),
        ({"rule": "bradley_terry"}, False),
        ({"answer": "abstain"}, False),
    ],
)
def test_samples_end_early_only_with_a_bound_that_decides(settings, expected):
    assert selector(**settings).can_end_early == expected


@pytest.mark.quick
def test_the_bound_of_a_beginning_is_never_above_the_score_of_the_answer():
    text = "Ada lives in a small town near Porto and plays the slate banjo at home"
    words = text.split()
    original = "Ada lives in Porto, at home she plays the slate banjo."
    for settings in (
        {},
        {"name": "rouge1_recall", "threshold": 0.3},
        {"weights": {"rougeL_recall": 1.0, "forbidden": 1.0}, "forbidden": ("slate banjo",)}
        | {"forbidden_similarity": 100.0},
        {"min_len": 8},
    ):
        score = run_score(
            tiny.pmc_config(**settings),
            originals=[original],
            questions=["Where?"],
            retain_questions=(),
            retain_answers=(),
            secrets=frozenset({"porto"}),
        )
        texts = [" ".join(words[:n]) for n in range(1, len(words) + 1)]
        bounds = lower_bound(score)(original, texts)
        scores = score(original, texts)
        assert (bounds[:-1] <= bounds[1:]).all() and bounds[-1] > 0
        assert all((bounds[n] <= scores[n:]).all() for n in range(len(texts)))


@pytest.mark.quick
def test_a_function_may_declare_its_bound():
    def length(original, samples):
        return [min(1.0, len(text) / 100) for text in samples]

    assert lower_bound(checked(length)) is None
    length.lower_bound = length
    assert lower_bound(checked(length))("", ["abcd"])[0] == 0.04
