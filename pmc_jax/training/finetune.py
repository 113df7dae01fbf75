"""Supervised fine-tuning: makes the model that knows the data, where an experiment needs one.

Only this module and its command import `FinetuneSet`; unlearning cannot.
"""

from pmc_jax.artifacts.checkpoint import Checkpoints, Interval
from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder
from pmc_jax.config.run import DataConfig, FinetuneConfig
from pmc_jax.data.encode import shared_prefix
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
    """Trains on question-answer pairs, loss on the answers only.

    The epochs visit all rows, each in a new order (`pmc.epoch_rows`).

    Args:
        generator: the model to start from.
        rows: what to learn.
        settings: optimizer, epochs, rows a step.
        data: `max_length` and `long_rows` are read.
        checkpoints: where the training goes on from and is kept every ten minutes; None = nowhere.
        donate: the model's buffers may be taken over.

    Returns:
        The trained weights.

    Raises:
        UserError: no rows, rows that are too long, or losses that are not finite.
        Preempted: the process was asked to stop; what was trained is in `checkpoints`.
    """
    if not len(rows):
        raise UserError("finetune.data: no rows")
    sequences = generator.sequences(rows.questions, rows.answers, data, ids=rows.ids)
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in sequences])
    lengths = [len(s) for s in sequences]
    lm = generator.lm
    packer = Packer.fit(
        prefix,
        lengths,
        max(lengths),
        settings.batch_size,
        lm.layout.row_multiple,
        settings.loss_mean,
    )
    rows_a_step = settings.batch_size * settings.accumulation_steps
    total = total_steps(len(sequences), rows_a_step, settings.epochs)
    trainer = Trainer(
        lm.model, lm.config, lm.layout, settings, total, generator.dtype, donate=donate, seed=seed
    )
    guard, begin, interval = DivergenceGuard(settings, "finetune"), 0, Interval()
    if checkpoints is not None and (found := checkpoints.restore_latest(trainer.abstract_state())):
        begin, saved, _ = found
        trainer.load_state_dict(saved)
    recorder.log.resume(begin, key="finetune_step")

    def save(done: int) -> None:
        if checkpoints is not None and checkpoints.latest() != done:
            checkpoints.save(done, trainer.state_dict(), {})

    bar = progress(total, "fine-tune", "step", enabled=recorder.bars)
    with bar, recorder.watch.stage("finetune"):
        bar.update(begin)
        for step in range(begin, total):
            chosen = epoch_rows(len(sequences), rows_a_step, step, seed)
            batch = packer.pack(
                [[sequences[j] for j in chosen]],
                [1.0],
                micro_batches=settings.accumulation_steps,
            )
            metrics = trainer.step(batch)
            (loss,) = metrics["terms"]
            recorder.log.event(
                "finetune",
                finetune_step=step + 1,
                loss=loss,
                gradient_norm=metrics["gradient_norm"],
            )
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}")
            guard.check(step + 1, metrics, [sequences[j].id for j in chosen])
            if interval.is_over():
                save(step + 1)
                interval.begin()
            try:
                preemption.check()
            except Preempted:
                save(step + 1)
                raise
    return trainer.release()
