"""Implements the relearning attack: answers that brief fine-tuning recovers were only hidden.

Reference: Hu et al., "Unlearning or Obfuscating? Jogging the Memory of Unlearned LLMs via Benign
Relearning", ICLR 2025, arXiv 2406.13356.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.config.data import DataConfig
from pmc_jax.config.evaluate import RelearnConfig
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.records import RetainSet
from pmc_jax.errors import UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.finetune import train_on_answers


def relearned(
    generator: TextGenerator,
    rows: RetainSet,
    *,
    settings: RelearnConfig,
    train: TrainConfig,
    data: DataConfig,
    seed: int,
    progress: Callable[[int], None] = lambda steps: None,
) -> Decoder:
    """Fine-tunes a copy of a model on a few question-answer pairs and returns the new weights.

    Training uses AdamW with a constant learning rate and the loss of the answer tokens. Each epoch
    visits the rows in a new order (`order.epoch_rows`).

    Args:
        generator: the attacked model without adapters. Its weights do not change.
        rows: question-answer pairs. Training uses the first `settings.rows` pairs.
        settings: numbers of steps and of rows, rows per step and learning rate.
        train: all other settings of the optimizer, and whether adapters are trained. Weight decay,
            warm-up, clipping and accumulation are always off.
        data: settings of the data. Only `max_length` and `long_rows` are read.
        seed: seed of the row order and of new adapters.
        progress: function that is called with 1 after each step.

    Returns:
        New weights with merged adapters, in float32 after full fine-tuning.

    Raises:
        UserError: there are no rows, rows are too long, or a loss or gradient is not finite.
        Preempted: the process was asked to stop.
    """
    if not len(rows):
        raise UserError(
            "data.evaluate.relearn: the relearning attack has no rows to train on. Set "
            "data.evaluate.relearn.path to a file with at least one row."
        )
    rows = rows.select(range(min(settings.rows, len(rows))))
    sequences = generator.sequences(rows.questions, rows.answers, data, ids=rows.ids)
    optimizer = dataclasses.replace(
        train,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        adamw=dataclasses.replace(train.adamw, weight_decay=0.0),
        warmup_steps=0,
        decay="none",
        max_grad_norm=None,
        accumulation_steps=1,
    )

    def on_step(step: int, metrics: dict[str, Any], ids: Sequence[str]) -> None:
        if not metrics["applied"]:
            raise UserError(
                f"evaluate.relearn: the loss or the gradient was not finite in step {step}. "
                f"Decrease evaluate.relearn.learning_rate, which is {settings.learning_rate}."
            )
        progress(1)

    steps = settings.steps
    return train_on_answers(generator, sequences, optimizer, steps, seed=seed, on_step=on_step)
