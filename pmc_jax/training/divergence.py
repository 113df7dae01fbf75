"""Stops a run that diverges: its losses are not finite, or its retain loss exceeds a limit."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError, first_of


class DivergenceGuard:
    """Checks the metrics of every step.

    Args:
        settings: of the training; `max_bad_steps` is read.
        section: name of the settings' section, for error messages.
        max_retain_loss: see `PMCConfig`; None = no limit.
    """

    def __init__(
        self, settings: TrainConfig, section: str, *, max_retain_loss: float | None = None
    ):
        self._settings, self._section, self._bad = settings, section, 0
        self._max_retain_loss = max_retain_loss

    def check(self, step: int, metrics: Mapping[str, Any], ids: Sequence[str]) -> None:
        """Raises if too many consecutive steps were not applied, or the retain loss is too high.

        Args:
            step: number of the step, from 1.
            metrics: of `Trainer.step`; the last term is the retain loss.
            ids: ids of the step's rows.

        Raises:
            UserError: with the step, its rows and the settings to change.
        """
        self._bad = 0 if metrics["applied"] else self._bad + 1
        limit, loss = self._max_retain_loss, metrics["terms"][-1]
        rows = first_of(ids, 8)
        lower = f"lower {self._section}.learning_rate={self._settings.learning_rate}"
        if self._bad >= self._settings.max_bad_steps:
            raise UserError(
                f"step {step}: the loss or gradient was not finite {self._bad} times in a row, "
                f"last on the rows {rows}; none of these steps was applied; {lower}, set "
                f"{self._section}.max_grad_norm=1.0, or set model.compute_dtype=float32"
            )
        if limit is not None and metrics["applied"] and loss > limit:
            raise UserError(
                f"step {step}: the retain loss is {loss:.3g}, above "
                f"pmc.schedule.max_retain_loss={limit}, on the rows {rows}; {lower}, or raise "
                "pmc.schedule.lambda_retain"
            )
