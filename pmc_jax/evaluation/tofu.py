"""The measures of the TOFU benchmark.

With l the mean loss (nats a token, end token included) of a text after its question:

    probability   exp(-l(answer)); on real_authors and world_facts that divided by the sum of it
                  and of exp(-l) of the wrong answers; mean over rows
    ROUGE-L       recall of the greedy answer, mean over rows
    truth ratio   of `truth_ratio`, in two definitions, geo and arith; on real_authors and
                  world_facts of the answer itself where there is none in other words
    Model Utility     harmonic mean of these three numbers on retain, real_authors, world_facts
    Forget Quality    of `truth_ratio`, against the reference

Reference: Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.config.evaluate import EvaluateConfig
from pmc_jax.evaluation.quality import UTILITY_SPLITS
from pmc_jax.evaluation.result import NO_REFERENCE, Description, Result, Rows, of_split
from pmc_jax.evaluation.rows import NOT_FINITE, checked, diverged, mean_loss, not_given
from pmc_jax.evaluation.truth_ratio import KINDS, forget_quality, log_truth_ratio, truth_ratio

_AMONG_WRONG = ("real_authors", "world_facts")
_MEANS = {"geo": "geometric mean", "arith": "arithmetic mean"}

DESCRIPTIONS = {
    "forget.probability": Description("probability of the forget answers", "reference"),
    "forget.rougeL_recall": Description("ROUGE-L recall of the forget answers", "lower"),
    **{
        f"{split}.{part}": Description(f"{words}, {split.replace('_', ' ')}", "higher")
        for split in UTILITY_SPLITS
        for part, words in (
            ("probability", "probability of the answers"),
            ("rougeL_recall", "ROUGE-L recall of the answers"),
            *((f"truth_ratio.{kind}", f"truth ratio ({_MEANS[kind]})") for kind in KINDS),
        )
    },
}
for _kind, _mean in _MEANS.items():
    DESCRIPTIONS |= {
        f"forget.truth_ratio.{_kind}": Description(f"truth ratio ({_mean}), forget", "reference"),
        f"model_utility.{_kind}": Description(f"TOFU Model Utility ({_mean})", "higher"),
        f"forget_quality.{_kind}": Description(f"TOFU Forget Quality ({_mean})", "higher", "p"),
        f"forget_quality.{_kind}.statistic": Description(
            f"distance of truth ratios ({_mean}) from the reference's", "lower", ""
        ),
    }


def probability(true: np.ndarray) -> float:
    """Mean of exp(-l).

    Args:
        true: float [N], mean loss of each answer.
    """
    return float(np.exp(-true).mean())


def probability_among(true: np.ndarray, wrong: Sequence[Sequence[float]]) -> float:
    """Mean of p / (p + sum of p of the wrong answers).

    Args:
        true: float [N], mean loss of each answer.
        wrong: N lists, mean losses of its wrong answers.
    """
    # Of logarithms: a row of tiny probabilities is no 0 / 0.
    logs = [np.array([-t, *np.negative(w)]) for t, w in zip(true, wrong, strict=True)]
    return float(np.mean([np.exp(row[0] - np.logaddexp.reduce(row)) for row in logs]))


def model_utility(nine: Sequence[float]) -> float:
    """Harmonic mean of numbers that are not negative; 0 where one of them is 0."""
    return 0.0 if 0 in nine else len(nine) / sum(1 / n for n in nine)


def summarise(
    own: Rows, reference: Rows | None, before: Rows | None, settings: EvaluateConfig
) -> Result:
    """All numbers that the rows allow."""
    result = Result()
    for split in ("forget", *UTILITY_SPLITS):
        _of_one_split(result, split, own)
    for kind in KINDS:
        parts = ("probability", "rougeL_recall", f"truth_ratio.{kind}")
        nine = [f"{split}.{part}" for split in UTILITY_SPLITS for part in parts]
        lacking = dict.fromkeys(result.missing[n] for n in nine if n in result.missing)
        if lacking:
            result.missing[f"model_utility.{kind}"] = "; ".join(lacking)
        else:
            result.values[f"model_utility.{kind}"] = model_utility([result.values[n] for n in nine])
        _forget_quality(result, kind, own, reference)
    return checked(result, DESCRIPTIONS)


def _of_one_split(result: Result, split: str, own: Rows) -> None:
    rows = of_split(own.get("likelihood", {}), split)
    greedy = of_split(own.get("greedy", {}), split)

    recalls = [row["rougeL"] for row in greedy.values()]
    answers = np.array([mean_loss(row["answer"]) for row in rows.values()])
    # name -> number, or why it is missing.
    found: dict[str, float | str] = {
        "rougeL_recall": float(np.mean(recalls)) if greedy else not_given(split)
    }
    if split in _AMONG_WRONG:
        lacking = _lacking(rows, split, "wrong")
        found["probability"] = lacking or probability_among(answers, _wrong(rows))
    else:
        found["probability"] = _lacking(rows, split) or probability(answers)
    for kind in KINDS:
        ratios, lacking = _log_ratios(rows, split, kind)
        found[f"truth_ratio.{kind}"] = lacking or truth_ratio(ratios, forget=split == "forget")
    for name, number in found.items():
        where = result.missing if isinstance(number, str) else result.values
        where[f"{split}.{name}"] = number


def _forget_quality(result: Result, kind: str, own: Rows, reference: Rows | None) -> None:
    names = [f"forget_quality.{kind}", f"forget_quality.{kind}.statistic"]
    ratios, reason = _log_ratios(of_split(own.get("likelihood", {}), "forget"), "forget", kind)
    if not reason and reference is None:
        reason = NO_REFERENCE
    if not reason:
        rows = of_split(reference.get("likelihood", {}), "forget")
        its_ratios, reason = _log_ratios(rows, "forget", kind)
    if reason:
        result.missing.update(dict.fromkeys(names, reason))
    else:
        result.values.update(zip(names, forget_quality(ratios, its_ratios), strict=True))


def _log_ratios(rows: Mapping[str, Any], split: str, kind: str) -> tuple[np.ndarray, str]:
    """log R of each row, or why there is none."""
    columns = ("wrong",) if split in _AMONG_WRONG else ("paraphrased", "wrong")
    if reason := _lacking(rows, split, *columns):
        return np.empty(0), reason
    true = [mean_loss(row["paraphrased"] or row["answer"]) for row in rows.values()]
    return log_truth_ratio(np.array(true), _wrong(rows), kind), ""


def _lacking(rows: Mapping[str, Any], split: str, *columns: str) -> str:
    if not rows:
        return not_given(split)
    if diverged(rows):
        return NOT_FINITE
    lacking = [c for c in columns if not all(row[c] for row in rows.values())]
    return f"data.evaluate.{split} has no {' and no '.join(lacking)} answers" if lacking else ""


def _wrong(rows: Mapping[str, Any]) -> list[list[float]]:
    return [[mean_loss(text) for text in row["wrong"]] for row in rows.values()]
