"""Stops a run if losses or gradients are repeatedly not finite or the retain loss is too high."""

from collections.abc import Mapping, Sequence
from typing import Any

from pmc_jax.config.train import TrainConfig
from pmc_jax.errors import UserError, first_of


class DivergenceGuard:
    """Guard that checks the metrics of every step and ends a run that diverges.

    Args:
        settings: settings of training. The run ends after `max_bad_steps` consecutive steps that
            were not applied.
        section: name of the settings' section, for messages.
        max_retain_loss: the setting `pmc.schedule.max_retain_loss`, which limits the last term of
            the loss. None sets no limit.
    """

    def __init__(
        self, settings: TrainConfig, section: str, *, max_retain_loss: float | None = None
    ):
        self._settings, self._section, self._bad = settings, section, 0
        self._max_retain_loss = max_retain_loss

    def check(self, step: int, metrics: Mapping[str, Any], ids: Sequence[str]) -> None:
        """Checks that the run has not diverged at a step.

        Args:
            step: number of the step, counted from 1.
            metrics: the metrics that `Trainer.step` returned.
            ids: ids of the step's rows.

        Raises:
            UserError: too many consecutive steps were not applied, or the retain loss is too high.
                The message names the step, its rows and the settings to change.
        """
        self._bad = 0 if metrics["applied"] else self._bad + 1
        limit, loss = self._max_retain_loss, metrics["terms"][-1]
        rows = first_of(ids, 8)
        lower = f"Decrease {self._section}.learning_rate={self._settings.learning_rate}"
        if self._bad >= self._settings.max_bad_steps:
            clip = f", set {self._section}.max_grad_norm=1.0"
            clip = clip if self._settings.max_grad_norm is None else ""
            steps = "this step" if self._bad == 1 else f"the last {self._bad} steps"
            raise UserError(
                f"step {step} on the rows {rows}: the loss or the gradient was not finite in "
                f"{steps}, so the weights stayed the same. {lower}{clip}, or, if the run "
                "computes in bfloat16, set model.compute_dtype=float32."
            )
        if limit is not None and metrics["applied"] and loss > limit:
            raise UserError(
                f"step {step} on the rows {rows}: the retain loss {loss:.3g} is above "
                f"pmc.schedule.max_retain_loss={limit}. {lower} or, unless method.name is "
                "retain_only, increase pmc.schedule.lambda_retain."
            )
