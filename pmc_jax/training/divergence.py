"""Stops a run that diverges: losses that are not finite, or a retain loss above its limit."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError, first_of


class DivergenceGuard:
    """Looks at every step's metrics.

    Args:
        settings: of the optimizer; `max_bad_steps` is read.
        section: that the settings stand in, for messages.
        max_retain_loss: of `PMCConfig`; None = no limit.
    """

    def __init__(
        self, settings: TrainConfig, section: str, *, max_retain_loss: float | None = None
    ):
        self._settings, self._section, self._bad = settings, section, 0
        self._max_retain_loss = max_retain_loss

    def check(self, step: int, metrics: Mapping[str, Any], ids: Sequence[str]) -> None:
        """Raises when too many steps in a row could not be applied, or what is retained is lost.

        Args:
            step: number of the step, from 1.
            metrics: of `Trainer.step`; its last term is that of the retain rows.
            ids: of the rows of the step.

        Raises:
            UserError: it names the step, its rows and what to change.
        """
        self._bad = 0 if metrics["applied"] else self._bad + 1
        limit, loss = self._max_retain_loss, metrics["terms"][-1]
        rows = first_of(ids, 8)
        lower = f"lower {self._section}.learning_rate={self._settings.learning_rate}"
        if self._bad >= self._settings.max_bad_steps:
            raise UserError(
                f"step {step}: loss or gradient not finite {self._bad} times in a row, last on the "
                f"rows {rows}; none of these steps was applied; {lower}, set "
                f"{self._section}.max_grad_norm=1.0, or model.compute_dtype=float32"
            )
        if limit is not None and metrics["applied"] and loss > limit:
            raise UserError(
                f"step {step}: the retain loss is {loss:.3g}, above "
                f"pmc.schedule.max_retain_loss={limit}, on the rows {rows}; {lower}, or raise "
                "pmc.schedule.lambda_retain"
            )
