"""Trains a model on question-answer pairs (supervised fine-tuning).

Fine-tuning trains the target model of an experiment, and attacks an unlearned model
(`evaluation.relearn`). The modules of `unlearning` do not import `FinetuneSet`.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.artifacts.checkpoint import Checkpoints, Interval
from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.data import DataConfig
from pmc_jax.config.run import FinetuneConfig
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.records import FinetuneSet
from pmc_jax.distributed import preemption
from pmc_jax.errors import Preempted, UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.divergence import DivergenceGuard
from pmc_jax.training.order import epoch_rows, total_steps
from pmc_jax.training.packing import Packer
from pmc_jax.training.step_config import learning_rate
from pmc_jax.training.trainer import Trainer


def finetune(
    generator: TextGenerator,
    rows: FinetuneSet,
    settings: FinetuneConfig,
    data: DataConfig,
    *,
    seed: int,
    recorder: Recorder,
    checkpoints: Checkpoints | None = None,
    donate: bool = False,
) -> Decoder:
    """Trains a model on question-answer pairs, with a loss only on the answers.

    Args:
        generator: the model before fine-tuning.
        rows: question-answer pairs to train on.
        settings: settings with the optimizer, the epochs and the rows per step.
        data: settings of the data. Only `max_length` and `long_rows` are read.
        seed: seed for the order of the rows and for new adapters.
        recorder: log, stopwatch and progress bar of the run.
        checkpoints: store of checkpoints. Training resumes from the newest checkpoint, and saves a
            checkpoint every ten minutes. With None, no checkpoint is read or saved.
        donate: whether training may reuse the model's buffers. If so, the caller must not use the
            model again.

    Returns:
        The trained weights.

    Raises:
        UserError: there are no rows, a row is too long, or the loss or the gradient is not finite
            in too many consecutive steps.
        Preempted: the process was asked to stop. `checkpoints`, if given, holds the training state.
    """
    if not len(rows):
        raise UserError("finetune: there are no rows. Give at least one question-answer pair.")
    sequences = generator.sequences(rows.questions, rows.answers, data, ids=rows.ids)
    steps = total_steps(len(sequences), settings.step_rows, settings.epochs)
    guard = DivergenceGuard(settings, "finetune")
    bar = progress(steps, "fine-tune", "step", enabled=recorder.bars)

    def on_start(step: int) -> None:
        recorder.log.resume(step, key="finetune_step")
        bar.update(step)

    def on_step(step: int, metrics: dict[str, Any], ids: Sequence[str]) -> None:
        (loss,), norm = metrics["terms"], metrics["gradient_norm"]
        rate = learning_rate(settings, steps, step - 1)
        recorder.log.finetune(step, loss=loss, gradient_norm=norm, learning_rate=rate)
        bar.update()
        bar.set_postfix_str(f"loss {loss:.3f}")
        guard.check(step, metrics, ids)

    with bar, recorder.watch.stage("finetune"):
        return train_on_answers(
            generator,
            sequences,
            settings,
            steps,
            seed=seed,
            on_step=on_step,
            on_start=on_start,
            checkpoints=checkpoints,
            donate=donate,
        )


class AnswerBatches:
    """Batches of the gradient steps on answer tokens.

    Each epoch visits all sequences in a new order (`order.epoch_rows`).

    Args:
        sequences: the sequences to train on.
        settings: settings with the rows per step and the means of the loss.
        seed: seed for the order of the sequences.
        row_multiple: number of which the number of packed rows is a multiple.
    """

    def __init__(
        self,
        sequences: Sequence[TokenSequence],
        settings: TrainConfig,
        seed: int,
        row_multiple: int,
    ):
        self._sequences, self._settings, self._seed = sequences, settings, seed
        self._packer = Packer.fit(
            shared_prefix([s.tokens[: s.begin].tolist() for s in sequences]),
            [len(s) for s in sequences],
            settings.batch_size,
            row_multiple,
            loss_mean=settings.loss_mean,
            accumulation_mean=settings.accumulation_mean,
        )

    def of(self, step: int) -> tuple[TrainBatch, list[TokenSequence]]:
        """Returns the batch of a step, counted from 0, and its sequences."""
        count, parts = len(self._sequences), self._settings.accumulation_steps
        chosen = epoch_rows(count, self._settings.step_rows, step, self._seed)
        rows = [self._sequences[j] for j in chosen]
        return self._packer.pack([rows], [1.0], micro_batches=parts), rows


def train_on_answers(
    generator: TextGenerator,
    sequences: Sequence[TokenSequence],
    settings: TrainConfig,
    steps: int,
    *,
    seed: int,
    on_step: Callable[[int, dict[str, Any], Sequence[str]], None],
    on_start: Callable[[int], None] = lambda step: None,
    checkpoints: Checkpoints | None = None,
    donate: bool = False,
) -> Decoder:
    """Trains a model on answer tokens for a fixed number of gradient steps (`AnswerBatches`).

    Args:
        generator: the model before training, without adapters.
        sequences: the sequences to train on.
        settings: settings with the optimizer, the rows per step and the adapters.
        steps: number of gradient steps.
        seed: seed for the order of the sequences and for new adapters.
        on_step: function to call after each step with the number of the step, counted from 1, the
            metrics from `Trainer.step` and the ids of the rows. An error from the function stops
            the training.
        on_start: function to call before the first step with the number of steps that were finished
            at the newest checkpoint, or 0 if there is no checkpoint.
        checkpoints, donate: the same as in `finetune`.

    Returns:
        The trained weights with merged adapters, in float32 if all weights are trained.

    Raises:
        Preempted: the process was asked to stop.
    """
    lm = generator.lm
    batches = AnswerBatches(sequences, settings, seed, lm.layout.row_multiple)
    trainer = Trainer(
        lm.model, lm.config, lm.layout, settings, generator.dtype, donate=donate, seed=seed
    )
    done, interval = 0, Interval()
    newest = checkpoints.restore_latest(trainer.abstract_state()) if checkpoints else None
    if newest is not None:
        done, state, _ = newest
        trainer.load_state_dict(state)
    on_start(done)

    def save() -> None:
        if checkpoints is not None and checkpoints.latest() != done:
            checkpoints.save(done, trainer.state_dict(), {})

    with contextlib.nullcontext() if checkpoints is None else preemption.saving():
        while done < steps:
            batch, rows = batches.of(done)
            metrics = trainer.step(batch, learning_rate(settings, steps, done))
            done += 1
            on_step(done, metrics, [row.id for row in rows])
            if checkpoints is not None and interval.is_over():
                save()
                interval.begin()
            try:
                preemption.check()
            except Preempted:
                save()
                raise
    return trainer.release()
