"""TOFU's measures: hand-computed cases, and the logs that the benchmark's authors published."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation import tofu
from pmc_jax.evaluation.result import NO_REFERENCE
from pmc_jax.evaluation.truth_ratio import KINDS, forget_quality, log_truth_ratio, truth_ratio

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "tofu_eval"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="needs shared/conformance/tofu_eval")

NAMES = ("retain", "real_authors", "world_facts")
SETTINGS = EvaluateConfig()


def text(*probabilities):
    return {"logp": [math.log(p) for p in probabilities]}


def row(true, paraphrased, *wrong):
    return {
        "answer": text(*true),
        "paraphrased": paraphrased and text(*paraphrased),
        "wrong": [text(*w) for w in wrong] or None,
        "zlib": 10,
    }


def likelihood(**splits):
    return {f"{s}/{i}": row(*r) for s, rows in splits.items() for i, r in enumerate(rows)}


def test_probability_by_hand():
    assert tofu.probability(np.log([2.0, 4.0])) == pytest.approx(0.375, rel=1e-15)
    # 0.5 / (0.5 + 0.25 + 0.25) and 0.2 / (0.2 + 0.6), rows of two and of one wrong answer.
    true, wrong = -np.log([0.5, 0.2]), [-np.log([0.25, 0.25]), -np.log([0.6])]
    assert tofu.probability_among(true, wrong) == pytest.approx(0.375, rel=1e-15)
    # Both probabilities underflow, their ratio does not.
    assert tofu.probability_among(np.array([1000.0]), [[1000.0]]) == pytest.approx(0.5, rel=1e-12)
    assert tofu.probability_among(np.array([1000.0]), [[1.0]]) == 0.0


def test_truth_ratios_by_hand():
    true, wrong = -np.log([0.5]), [-np.log([0.1, 0.4])]
    geo, arith = (log_truth_ratio(true, wrong, kind) for kind in KINDS)
    assert np.exp(geo) == pytest.approx([0.2 / 0.5], rel=1e-14)
    assert np.exp(arith) == pytest.approx([0.25 / 0.5], rel=1e-14)
    ratios = np.log([0.25, 4.0, 1.0])
    assert truth_ratio(ratios, forget=True) == pytest.approx((0.25 + 0.25 + 1) / 3, rel=1e-15)
    assert truth_ratio(ratios, forget=False) == pytest.approx(0.75 / 3, rel=1e-15)


def test_forget_quality_by_hand():
    p, statistic = forget_quality(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    # 2 of the 6 orders of two and two are as far apart.
    assert (p, statistic) == (pytest.approx(1 / 3, rel=1e-12), 1.0)
    assert forget_quality(np.arange(5.0), np.arange(5.0)) == (1.0, 0.0)


def test_model_utility_by_hand():
    assert tofu.model_utility([0.5] * 9) == pytest.approx(0.5, rel=1e-15)
    assert tofu.model_utility([1.0, 0.5]) == pytest.approx(2 / 3, rel=1e-15)
    assert tofu.model_utility([1.0, 0.0]) == 0.0


def whole():
    """Rows of all splits; real authors and world facts have no paraphrases, as TOFU's."""
    return {
        "greedy": {f"{s}/0": {"rougeL": 0.5} for s in ("forget", *NAMES)},
        "likelihood": likelihood(
            forget=[((0.5, 0.125), (0.5,), (0.1,), (0.4,))],
            retain=[((0.5,), (0.5,), (0.1,), (0.4,))],
            real_authors=[((0.5,), None, (0.25,), (0.25,))],
            world_facts=[((0.5,), None, (0.25,), (0.25,))],
        ),
    }


def test_summarise_by_hand():
    result = tofu.summarise(whole(), whole(), None, SETTINGS)
    assert set(result.values) == set(tofu.DESCRIPTIONS)
    assert result.missing == {}
    expected = {
        "forget.probability": 0.25,  # of two tokens, the geometric mean
        "forget.rougeL_recall": 0.5,
        "forget.truth_ratio.geo": 0.4,
        "forget.truth_ratio.arith": 0.5,
        "retain.probability": 0.5,
        "retain.truth_ratio.geo": 0.6,
        "real_authors.probability": 0.5,
        "real_authors.truth_ratio.geo": 0.5,
        "world_facts.truth_ratio.arith": 0.5,
        "model_utility.geo": 9 / (8 / 0.5 + 1 / 0.6),
        "model_utility.arith": 0.5,
        "forget_quality.geo": 1.0,
        "forget_quality.arith.statistic": 0.0,
    }
    for name, value in expected.items():
        assert result.values[name] == pytest.approx(value, rel=1e-14), name


def test_what_is_missing_is_said():
    rows = whole()
    rows["likelihood"] |= likelihood(retain=[((0.5,), None, (0.1,))], world_facts=[((0.5,), None)])
    del rows["greedy"]["real_authors/0"]
    result = tofu.summarise(rows, None, None, SETTINGS)
    retain = "data.evaluate.retain has rows without paraphrased answers"
    facts = "data.evaluate.world_facts has rows without wrong answers"
    assert result.missing == {
        "retain.truth_ratio.geo": retain,
        "retain.truth_ratio.arith": retain,
        "world_facts.probability": facts,
        "world_facts.truth_ratio.geo": facts,
        "world_facts.truth_ratio.arith": facts,
        "real_authors.rougeL_recall": "data.evaluate.real_authors is not given",
        **{
            f"model_utility.{k}": f"{retain}; {facts}; data.evaluate.real_authors is not given"
            for k in KINDS
        },
        **{f"forget_quality.{k}{s}": NO_REFERENCE for k in KINDS for s in ("", ".statistic")},
    }
    assert set(result.values) | set(result.missing) == set(tofu.DESCRIPTIONS)
    nothing = tofu.summarise({}, {}, None, SETTINGS)
    assert nothing.values == {}
    assert set(nothing.missing) == set(tofu.DESCRIPTIONS)
    assert nothing.missing["forget_quality.geo"] == "data.evaluate.forget is not given"


def test_a_model_that_diverged_gives_no_numbers():
    rows = whole()
    for r in rows["likelihood"].values():
        r["answer"]["logp"] = [math.nan]
        r["wrong"][0]["logp"] = [math.nan]
    result = tofu.summarise(rows, whole(), None, SETTINGS)
    assert set(result.values) == {f"{split}.rougeL_recall" for split in ("forget", *NAMES)}
    assert set(result.missing.values()) == {
        "the model's numbers are not finite; check whether its training diverged"
    }


def losses(folder, split):
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return rows, (
        np.array([r["avg_gt_loss"] for r in rows]),
        np.array([r["avg_paraphrased_loss"] for r in rows]),
        [r["average_perturb_loss"] for r in rows],
    )


def rows_of(folder, split):
    """The log as rows; a text of one token has the mean loss that was logged."""
    logged, _ = losses(folder, split)
    return {
        f"{split}/{r['i']}": {
            "answer": {"logp": [-r["avg_gt_loss"]]},
            "paraphrased": {"logp": [-r["avg_paraphrased_loss"]]},
            "wrong": [{"logp": [-loss]} for loss in r["average_perturb_loss"]],
        }
        for r in logged
    }, {f"{split}/{r['i']}": {"rougeL": r["rougeL_recall"]} for r in logged}


def all_rows(folder):
    splits = [rows_of(folder, split) for split in ("forget", *NAMES)]
    return {
        "likelihood": {k: v for rows, _ in splits for k, v in rows.items()},
        "greedy": {k: v for _, rows in splits for k, v in rows.items()},
    }


@needs_cases
def test_published_logs_give_the_published_numbers():
    expected = json.loads((CASES / "expected.json").read_text())
    folders = {folder.name: folder for folder in sorted((CASES / "logs").iterdir())}
    assert len(folders) == 4
    rows = {name: all_rows(folder) for name, folder in folders.items()}
    for name, own in rows.items():
        values = tofu.summarise(own, None, None, SETTINGS).values
        for kind in KINDS:
            numbers = expected["models"][name][kind]
            for split in ("forget", *NAMES):
                assert values[f"{split}.rougeL_recall"] == numbers[f"rouge {split}"]
                for part, wanted in (
                    ("probability", "prob"),
                    (f"truth_ratio.{kind}", "truth_ratio"),
                ):
                    got = values[f"{split}.{part}"]
                    assert got == pytest.approx(numbers[f"{wanted} {split}"], abs=1e-12)
            utility = values[f"model_utility.{kind}"]
            assert utility == pytest.approx(numbers["model_utility"], abs=1e-12)
        # open-unlearning adds 1e-10 to its denominators: 2e-8 of R at a p(true) of 0.005.
        theirs = expected["models"][name]["ou"]
        assert values["model_utility.geo"] == pytest.approx(theirs["model_utility"], abs=1e-7)

    pairs = [
        case
        for case in expected["forget_quality"]
        if case["rows"] == "all" and {case["model"], case["reference"]} <= set(folders)
    ]
    assert len(pairs) == 6
    for case in pairs:
        own, reference = rows[case["model"]], rows[case["reference"]]
        values = tofu.summarise(own, reference, None, SETTINGS).values
        for kind in KINDS:
            quality = values[f"forget_quality.{kind}"]
            wanted = math.log10(case[kind]["p"])
            assert math.log10(quality) == pytest.approx(wanted, abs=1e-6)
            statistic = values[f"forget_quality.{kind}.statistic"]
            assert statistic == pytest.approx(case[kind]["ks"], abs=1e-12)


@needs_cases
def test_the_ratio_of_a_row_is_that_of_the_log():
    for folder in sorted((CASES / "logs").iterdir()):
        for split in ("forget", *NAMES):
            logged, (true, paraphrased, wrong) = losses(folder, split)
            ratios = np.exp(log_truth_ratio(paraphrased, wrong, "geo"))
            # The logs round the ratio to float32.
            np.testing.assert_allclose(ratios, [r["truth_ratio"] for r in logged], rtol=1e-5)
            if split in ("real_authors", "world_facts"):
                # The authors' "paraphrase" is the answer, computed in another batch: the largest
                # differences are of the two rows of a last, smaller one.
                assert all(r["num_token_gt"] == r["num_token_paraphrased"] for r in logged)
                assert np.sum(np.abs(true - paraphrased) > 1e-5) <= 2
                np.testing.assert_allclose(true, paraphrased, atol=0.07)


@needs_cases
def test_the_case_published_with_open_unlearning():
    case = json.loads((CASES / "expected.json").read_text())["published_case"]
    assert tofu.model_utility(case["inputs"]) == pytest.approx(case["model_utility"], rel=1e-14)
