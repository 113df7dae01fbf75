"""Computes the measures of the TOFU benchmark.

l is the mean loss (cross-entropy per token, end token included) of a text after its question.

    probability       Mean over rows of exp(-l(answer)). On real_authors and world_facts, each value
                      is divided by the sum of exp(-l) over the answer and the wrong answers.
    ROUGE-L           Recall of the true answer in the greedy answer, mean over rows.
    truth ratio       See `truth_ratio` for its two definitions, geo and arith. On real_authors and
                      world_facts, it uses the answer itself if there is no paraphrase.
    Model Utility     Harmonic mean of these three numbers on retain, real_authors, world_facts.
    Forget Quality    Comparison with the reference model, see `truth_ratio`.

Reference: Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.evaluation.quality import UTILITY_SPLITS
from pmc_jax.evaluation.result import NO_REFERENCE, Description, Result
from pmc_jax.evaluation.rows import Rows, likelihood_of, mean_loss, not_given, of_split, unusable
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
            f"distance of the truth ratios ({_mean}) from those of the reference", "lower", ""
        ),
    }


def probability(true: np.ndarray) -> float:
    """Returns the mean of the normalised probability exp(-l) over answers.

    Args:
        true: float [N], mean loss l per token of each answer.
    """
    return float(np.exp(-true).mean())


def probability_among(true: np.ndarray, wrong: Sequence[Sequence[float]]) -> float:
    """Returns the mean share of the true answer in the probability of all options.

    The share is p / (p + sum of p over the wrong answers) with p = exp(-l).

    Args:
        true: float [N], mean loss l per token of each true answer.
        wrong: N lists of mean losses of the wrong answers.
    """
    # Logarithms avoid 0 / 0 in a row of tiny probabilities.
    logs = [np.array([-t, *np.negative(w)]) for t, w in zip(true, wrong, strict=True)]
    return float(np.mean([np.exp(row[0] - np.logaddexp.reduce(row)) for row in logs]))


def model_utility(nine: Sequence[float]) -> float:
    """Returns Model Utility, the harmonic mean of nine numbers that are at least 0.

    The result is 0 if one of the numbers is 0.
    """
    return 0.0 if 0 in nine else len(nine) / sum(1 / n for n in nine)


def summarise(own: Rows, reference: Rows | None, *_: Any) -> Result:
    """Computes all numbers (see the module docstring) for which rows are available."""
    numbers: dict[str, float | str] = {}
    for split in ("forget", *UTILITY_SPLITS):
        numbers |= {f"{split}.{name}": number for name, number in _of_split(split, own).items()}
    for kind in KINDS:
        parts = ("probability", "rougeL_recall", f"truth_ratio.{kind}")
        nine = [numbers[f"{split}.{part}"] for split in UTILITY_SPLITS for part in parts]
        reasons = dict.fromkeys(number for number in nine if isinstance(number, str))
        numbers[f"model_utility.{kind}"] = "; ".join(reasons) or model_utility(nine)
        numbers |= _forget_quality(kind, own, reference)
    return Result.of(numbers, DESCRIPTIONS)


def _of_split(split: str, own: Rows) -> dict[str, float | str]:
    rows = likelihood_of(own, split)
    recalls = [row["rougeL"] for row in of_split(own.get("greedy", {}), split).values()]
    answers = np.array([mean_loss(row["answer"]) for row in rows.values()])
    if split in _AMONG_WRONG:
        reason = _missing(rows, split, "wrong")
        share = reason or probability_among(answers, _wrong(rows))
    else:
        share = _missing(rows, split) or probability(answers)
    numbers = {
        "rougeL_recall": float(np.mean(recalls)) if recalls else not_given(split),
        "probability": share,
    }
    for kind in KINDS:
        ratios, reason = _log_ratios(rows, split, kind)
        numbers[f"truth_ratio.{kind}"] = reason or truth_ratio(ratios, forget=split == "forget")
    return numbers


def _forget_quality(kind: str, own: Rows, reference: Rows | None) -> dict[str, float | str]:
    names = [f"forget_quality.{kind}", f"forget_quality.{kind}.statistic"]
    ratios, reason = _log_ratios(likelihood_of(own, "forget"), "forget", kind)
    if not reason and reference is None:
        reason = NO_REFERENCE
    if not reason:
        others, reason = _log_ratios(likelihood_of(reference, "forget"), "forget", kind)
    numbers = [reason] * 2 if reason else forget_quality(ratios, others)
    return dict(zip(names, numbers, strict=True))


def _log_ratios(rows: Mapping[str, Any], split: str, kind: str) -> tuple[np.ndarray, str]:
    """Returns the logarithm of the truth ratio of each row, and "".

    If a ratio cannot be computed, the result is an empty array and the reason.
    """
    columns = ("wrong",) if split in _AMONG_WRONG else ("paraphrased", "wrong")
    if reason := _missing(rows, split, *columns):
        return np.empty(0), reason
    true = [mean_loss(row["paraphrased"] or row["answer"]) for row in rows.values()]
    return log_truth_ratio(np.array(true), _wrong(rows), kind), ""


def _missing(rows: Mapping[str, Any], split: str, *columns: str) -> str:
    """Returns why a split or columns of its rows cannot be used, or "" if they can.

    A split cannot be used without rows or with a value that is not finite, and a column cannot be
    used if a row has no value in it.
    """
    if reason := unusable(rows, split):
        return reason
    missing = [c for c in columns if not all(row[c] for row in rows.values())]
    lacks = " or ".join(missing)
    return f"data.evaluate.{split} has rows without {lacks} answers" if missing else ""


def _wrong(rows: Mapping[str, Any]) -> list[list[float]]:
    return [[mean_loss(text) for text in row["wrong"]] for row in rows.values()]
