"""Implements `evaluate.keep_best`, with which a run exports its best measured step."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pmc_jax.config.run import Config
from pmc_jax.errors import UserError
from pmc_jax.evaluation.quality import HEADLINE, criterion
from pmc_jax.unlearning.loop import Unlearning

_log = logging.getLogger(__name__)


def best_round(rule: str | None, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the step and the value of the best measured round.

    If several rounds have the same value, the last of them is the best.

    Args:
        rule: `evaluate.keep_best`.
        rounds: metrics of the rounds of a run. Rounds that were not measured are ignored.

    Returns:
        A dictionary with the `step` and the `value` from 0 to 100, or None if there is no rule or
        no measured round.
    """
    if rule is None:
        return None
    measured = [
        {"step": one["step"], "value": criterion(rule, *(one.get(name) or 0 for name in HEADLINE))}
        for one in rounds
        if any(one.get(name) is not None for name in HEADLINE)
    ]
    return max(measured, key=lambda one: (one["value"], one["step"]), default=None)


def protect_best(config: Config, run: Unlearning) -> bool:
    """Marks the checkpoint of the best step so far, so that the checkpoint is kept.

    Returns:
        True if the best step is the current step, whose checkpoint the caller must save.
    """
    best = best_round(config.evaluate.keep_best, run.rounds)
    chosen = run.recorder.checkpoints.chosen
    chosen.clear()
    if best is None:
        return False
    chosen.add(best["step"])
    return best["step"] == run.done


def return_to_best(config: Config, run: Unlearning, folder: Path) -> tuple[int, str | None]:
    """Restores the best measured step at the end of a run.

    Returns:
        The step of the restored weights, and the reason why this step is exported. The reason is
        None if `evaluate.keep_best` has not chosen the step.
    """
    rule = config.evaluate.keep_best
    best = best_round(rule, run.rounds)
    if best is None:
        return run.done, None
    last = best_round(rule, run.rounds[-1:])
    why = f"the best measured value of evaluate.keep_best={rule} ({best['value']:.1f})"
    if best["step"] == run.done:
        return run.done, why
    try:
        run.go_back(best["step"])
    except UserError as error:
        _log.warning(
            "%s: step %d has %s, but its checkpoint cannot be restored, so pmc exports the last "
            "step. %s",
            *(folder, best["step"], why, error),
        )
        return run.done, None
    return best["step"], f"{why}; the last step, {run.done}, has {last['value']:.1f}"
