"""Supervised fine-tuning on question-answer pairs.

It trains the model that knows the data, where an experiment needs one, and attacks an unlearned
model (`evaluation.relearn`). Unlearning cannot import `FinetuneSet`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pmc_jax.artifacts.checkpoint import Checkpoints, Interval
from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import DataConfig, FinetuneConfig
from pmc_jax.config.train import TrainConfig
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.records import FinetuneSet
from pmc_jax.distributed import preemption
from pmc_jax.errors import Preempted, UserError
from pmc_jax.models.decoder import Decoder
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.divergence import DivergenceGuard
from pmc_jax.training.order import epoch_rows, total_steps
from pmc_jax.training.packing import Packer
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
    """Trains on question-answer pairs, with the loss on the answers only.

    Args:
        generator: the model to start from.
        rows: the training data.
        settings: optimizer, epochs, rows per step.
        data: `max_length` and `long_rows` are read.
        checkpoints: training resumes from the newest one, and writes one every ten minutes; None =
            neither.
        donate: training may reuse the model's buffers.

    Returns:
        The trained weights.

    Raises:
        UserError: no rows, rows that are too long, or losses that are not finite.
        Preempted: the process was asked to stop; `checkpoints` holds the training state.
    """
    if not len(rows):
        raise UserError("finetune.data: no rows")
    sequences = generator.sequences(rows.questions, rows.answers, data, ids=rows.ids)
    steps = total_steps(
        len(sequences), settings.batch_size * settings.accumulation_steps, settings.epochs
    )
    guard = DivergenceGuard(settings, "finetune")
    bar = progress(steps, "fine-tune", "step", enabled=recorder.bars)

    def on_start(step: int) -> None:
        recorder.log.resume(step, key="finetune_step")
        bar.update(step)

    def on_step(step: int, metrics: dict[str, Any], ids: Sequence[str]) -> None:
        (loss,), norm = metrics["terms"], metrics["gradient_norm"]
        recorder.log.event("finetune", finetune_step=step, loss=loss, gradient_norm=norm)
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
    """Trains on the mean loss of answer tokens, for a fixed number of gradient steps.

    Each epoch visits all sequences in a new order (`order.epoch_rows`).

    Args:
        generator: the model to start from, without adapters.
        settings: optimizer, rows per step, and whether adapters are trained.
        seed: of the order, and of new adapters.
        on_step: called after each step with its number from 1, the metrics of `Trainer.step` and
            the ids of its rows; it raises to stop.
        on_start: called with the number of steps already in the checkpoint, 0 without one.
        checkpoints, donate: see `finetune`.

    Returns:
        The trained weights, adapters merged; float32 where all weights are trained.

    Raises:
        Preempted: the process was asked to stop.
    """
    lm, lengths = generator.lm, [len(s) for s in sequences]
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in sequences])
    batch, multiple = settings.batch_size, lm.layout.row_multiple
    packer = Packer.fit(prefix, lengths, batch, multiple, settings.loss_mean)
    trainer = Trainer(
        lm.model, lm.config, lm.layout, settings, steps, generator.dtype, donate=donate, seed=seed
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

    while done < steps:
        chosen = epoch_rows(len(sequences), batch * settings.accumulation_steps, done, seed)
        rows = [sequences[j] for j in chosen]
        metrics = trainer.step(
            packer.pack([rows], [1.0], micro_batches=settings.accumulation_steps)
        )
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
