"""The relearning attack: answers that brief fine-tuning recovers were hidden, not forgotten.

Reference: Hu et al., "Unlearning or Obfuscating? Jogging the Memory of Unlearned LLMs via Benign
Relearning", ICLR 2025, arXiv 2406.13356.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.config.evaluate import RelearnConfig
from pmc_jax.config.run import DataConfig
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
    """Fine-tunes a copy of the model on a few pairs: AdamW, constant learning rate, answer loss.

    Each epoch visits the rows in a new order (`order.epoch_rows`).

    Args:
        generator: the attacked model, without adapters; its weights stay unchanged.
        rows: training uses the first `settings.rows` of them.
        settings: steps, rows per step, learning rate.
        train: all other settings of the optimizer, and whether to train adapters; weight decay,
            warm-up, clipping and accumulation are off in any case.
        data: the function reads `max_length` and `long_rows`.
        seed: seed of the order and of new adapters.
        progress: called with 1 after each step.

    Returns:
        New weights with merged adapters; float32 in full fine-tuning.

    Raises:
        UserError: there are no rows, rows are too long, or a loss is not finite.
        Preempted: the process was asked to stop.
    """
    if not len(rows):
        raise UserError("data.evaluate.relearn: no rows")
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
                f"evaluate.relearn: loss or gradient not finite in step {step}; lower "
                f"evaluate.relearn.learning_rate={settings.learning_rate}"
            )
        progress(1)

    steps = settings.steps
    return train_on_answers(generator, sequences, optimizer, steps, seed=seed, on_step=on_step)
