"""Measures how well membership inference tells forget rows from rows that the model never saw.

An attack computes a score for each row from the log-probabilities log p of its answer tokens. A
higher score means that the model more likely saw the row in training. l is the mean loss -log p of
the tokens.

    loss         Score -l.
    zlib         Score -l / (size of the compressed answer in bytes).
    min_k        Mean of the lowest 20 % of log p (at least one token).
    min_k_plus   Mean of the lowest 20 % of z = (log p - m) / s with the mean m and the standard
                 deviation s of the log-probability of a token that is drawn from the model.
    reference    (l of the reference model) - l, on the rows that both models have.

As in open-unlearning, l includes the end token, while min_k and min_k_plus exclude it. Each attack
compares the forget rows with the rows of the holdout split:

    auc          Share of (forget, holdout) pairs in which the forget row scores higher; ties count
                 half. At 0.5, the attack cannot tell the rows apart. At 1, every forget row looks
                 more seen than every holdout row. At 0, every forget row looks less seen.
    tpr_at_x     Largest share of forget rows above a threshold that at most x % of the holdout rows
                 exceed. With fewer than 100 / x holdout rows, no holdout row exceeds the threshold.
    privleak     100 (A - A_reference) / A_reference with A = 1 - auc of min_k on the lowest 40 %
                 (MUSE uses this complement of auc). At 0, the model equals the reference. Below 0,
                 the forget rows look more seen to the model than to the reference; the minimum is
                 -100. Above 0, they look less seen, because too much was removed, which also
                 reveals them.

References: Carlini et al., arXiv 2012.07805 (zlib); Shi et al., arXiv 2310.16789 (Min-K%); Zhang et
al., arXiv 2404.02936 (Min-K%++); Carlini et al., arXiv 2112.03570 (rates at few false positives);
Shi et al., "MUSE", arXiv 2407.06460 (PrivLeak).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pmc_jax.evaluation.result import NO_REFERENCE, Description, Result
from pmc_jax.evaluation.rows import Rows, likelihood_of, mean_loss, unusable


def lowest_mean(numbers: Sequence[float], share: float) -> float:
    """Returns the mean of the lowest numbers, whose count is `share` of all numbers.

    The count is rounded down, but is at least 1.
    """
    count = max(1, int(len(numbers) * share))
    return float(np.sort(numbers)[:count].mean())


def area(seen: np.ndarray, unseen: np.ndarray) -> float:
    """Returns the share of (seen, unseen) pairs in which the seen row scores higher.

    Ties count half, so the result is the Mann-Whitney U statistic divided by the number of pairs.

    Args:
        seen, unseen: scores of the rows, float [N] and float [M]. A higher score means that a row
            looks more seen.
    """
    ordered = np.sort(unseen)
    below = np.searchsorted(ordered, seen, "left")
    not_above = np.searchsorted(ordered, seen, "right")
    return float((below + not_above).mean() / (2 * len(unseen)))


def rate_at(seen: np.ndarray, unseen: np.ndarray, false_share: float) -> float:
    """Returns the largest share of seen scores above a permitted threshold.

    A threshold is permitted if at most the share `false_share` of the unseen scores exceeds it.

    Args:
        seen, unseen: scores as in `area`.
        false_share: permitted share of unseen scores above the threshold, from 0 to 1.
    """
    # 1e-9 corrects products such as 0.29 * 100, which is below 29 in floating point.
    allowed = int(false_share * len(unseen) + 1e-9)
    if allowed >= len(unseen):
        return 1.0
    return float(np.mean(seen > np.sort(unseen)[::-1][allowed]))


def privleak(own_area: float, reference_area: float) -> float:
    """Returns PrivLeak, which is 100 (A - A_reference) / A_reference with A = 1 - area.

    Args:
        own_area: area of the model (see `area`).
        reference_area: area of the reference model, below 1.
    """
    return 100 * (reference_area - own_area) / (1 - reference_area)


def _without_end(numbers: Sequence[float]) -> Sequence[float]:
    return numbers[:-1] or numbers


def _min_k(row: Mapping[str, Any], share: float = 0.2) -> float:
    return lowest_mean(_without_end(row["answer"]["logp"]), share)


_ATTACKS = {
    "loss": lambda row: -mean_loss(row["answer"]),
    "zlib": lambda row: -mean_loss(row["answer"]) / row["zlib"],
    "min_k": _min_k,
    "min_k_plus": lambda row: lowest_mean(_without_end(row["answer"]["min_k_plus_z"]), 0.2),
}
_WORDS = {
    "loss": "by their loss",
    "zlib": "by their loss per compressed byte",
    "min_k": "by their least likely tokens",
    "min_k_plus": "by their least likely tokens, standardised",
    "reference": "by their loss minus the loss of the reference",
}
_SPLITS = ("forget", "holdout")
_RATES = {"tpr_at_1": 0.01, "tpr_at_5": 0.05}
_PARTS = {
    "auc": "forget rows separated from unseen rows {} (AUC)",
    "tpr_at_1": "forget rows identified {}, 1 % false alarms",
    "tpr_at_5": "forget rows identified {}, 5 % false alarms",
}
DESCRIPTIONS = {
    f"{attack}.{part}": Description(text.format(words), "reference")
    for attack, words in _WORDS.items()
    for part, text in _PARTS.items()
} | {"privleak": Description("PrivLeak (min-k, 40 %)", "reference", "")}


def summarise(own: Rows, reference: Rows | None, *_: Any) -> Result:
    """Computes the numbers of all attacks.

    The attack "reference" and privleak need the rows of a reference model.
    """
    sides = [likelihood_of(own, split) for split in _SPLITS]
    for side, split in zip(sides, _SPLITS, strict=True):
        if reason := unusable(side, split):
            return Result.nothing(DESCRIPTIONS, reason)
    numbers = {}
    for name, score in _ATTACKS.items():
        numbers |= _rates(name, *(np.array([score(row) for row in s.values()]) for s in sides))
    return Result.of(numbers | _beside_reference(sides, reference), DESCRIPTIONS)


def _rates(attack: str, seen: np.ndarray, unseen: np.ndarray) -> dict[str, float]:
    rates = {rate: rate_at(seen, unseen, share) for rate, share in _RATES.items()}
    return {f"{attack}.{name}": n for name, n in {"auc": area(seen, unseen), **rates}.items()}


def _beside_reference(sides: list[dict], reference: Rows | None) -> dict[str, float | str]:
    """Computes the numbers of the attack "reference" and PrivLeak.

    Args:
        sides: likelihood rows of the model on the forget split and on the holdout split.
    """
    others = [likelihood_of(reference, split) for split in _SPLITS]
    pairs = [
        [(own[key], other[key]) for key in own if key in other]
        for own, other in zip(sides, others, strict=True)
    ]
    if not all(pairs):
        reason = "the reference model shares no forget or no holdout rows with this model"
        reason = NO_REFERENCE if reference is None else reason
        return dict.fromkeys(["privleak", *(f"reference.{part}" for part in _PARTS)], reason)
    gains = [[mean_loss(b["answer"]) - mean_loss(a["answer"]) for a, b in side] for side in pairs]
    own_area, other_area = (
        area(*(np.array([_min_k(pair[model], 0.4) for pair in side]) for side in pairs))
        for model in (0, 1)
    )
    leak: float | str = "the reference model ranks every forget row above every holdout row"
    if other_area < 1:
        leak = privleak(own_area, other_area)
    return _rates("reference", *map(np.array, gains)) | {"privleak": leak}
