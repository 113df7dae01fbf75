"""The host loop: what a method does between the steps and gradient updates in turn.

A round is what the method prepares under one snapshot of the weights (PMC samples its unresolved
questions) and the N steps that follow. N = 1 is the paper's algorithm. Which rows are trained on is
the `RowSource`'s, how they are weighed the `Objective`'s; files, folders and evaluation are the
caller's.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from pmc_jax.artifacts.checkpoint import Interval
from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.profiler import traced
from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.artifacts.timer import UNLEARNING_STAGES
from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.records import RetainSet
from pmc_jax.distributed import multihost, preemption
from pmc_jax.errors import Preempted, UserError
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training import order
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.divergence import DivergenceGuard
from pmc_jax.training.losses import Objective, coefficients
from pmc_jax.training.packing import Packer
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning import pmc as algorithm
from pmc_jax.unlearning.retain_loss import RetainLoss
from pmc_jax.unlearning.source import RowSource


class Unlearning:
    """One run of a method; `run`, then read `trainer.model` and `rounds`.

    Args:
        generator: the model to start from, and how to ask it.
        source: the rows of the method.
        retain: pairs that anchor everything else.
        config: settings; `pmc`, `method`, `train` and of `data` the limits of rows are read.
        recorder: log, clock, checkpoints.
        run_state: of the caller; checkpoints hold it, and `resume` restores it.
        donate: the model's buffers may be taken over.

    Attributes:
        stopped: why the run ended before its last step, None where it did not.

    Raises:
        UserError: empty sets, or rows that are too long.
    """

    def __init__(
        self,
        generator: TextGenerator,
        source: RowSource,
        retain: RetainSet,
        *,
        config: Config,
        recorder: Recorder,
        run_state: RunState | None = None,
        donate: bool = False,
    ):
        for name, rows in (("forget", source.ids), ("retain", retain)):
            if not len(rows):
                raise UserError(f"data.{name}: no rows; unlearning needs at least one")
        self.generator, self.source, self.recorder = generator, source, recorder
        self.run_state = run_state or RunState()
        self.pmc, self.train, self.seed = config.pmc, config.train, config.seed
        self.stopped: str | None = None
        self.rounds: list[dict[str, Any]] = []
        self._max_seconds = config.method.max_seconds
        self._objective = Objective.of(
            config.method,
            lambda_retain=self.pmc.schedule.lambda_retain,
            layers=generator.lm.config.num_layers,
            seed=self.seed,
        )
        self._method = self._objective.method
        self._retain = generator.sequences(
            retain.questions, retain.answers, config.data, ids=retain.ids
        )
        self._rows_a_step = self.train.batch_size * self.train.accumulation_steps
        self.total_steps = order.total_steps(
            len(source.ids), self._rows_a_step, self.pmc.schedule.epochs
        )
        self._packer = self._fitted()
        lm = generator.lm
        # Before the trainer, which takes over the weights that these are of.
        self._retained = (
            RetainLoss(generator, self._retain, self.seed) if self.pmc.stop.enabled else None
        )
        self.trainer = Trainer(
            lm.model,
            lm.config,
            lm.layout,
            self.train,
            self.total_steps,
            generator.dtype,
            donate=donate,
            seed=self.seed,
            objective=None if self._method.needs == "means" else self._objective,
        )
        self._guard = DivergenceGuard(
            self.train, "train", max_retain_loss=self.pmc.schedule.max_retain_loss
        )
        self.done = 0
        # Of a round that has begun: what the source says of it, and the losses of its steps.
        self._round: dict[str, Any] | None = None
        self._interval = Interval()

    def _fitted(self) -> Packer:
        prompts = [s.tokens[: s.begin].tolist() for s in self._retain] + list(self.source.prompts)
        retain = [len(s) for s in self._retain]
        others = len(self._method.terms) - ("retain" in self._method.terms)
        sequences = others + self.pmc.schedule.retain_rows * ("retain" in self._method.terms)
        return Packer.fit(
            shared_prefix(prompts),
            typical=retain + list(self.source.lengths),
            longest=max(*retain, self.source.longest),
            batch=sequences * self.train.batch_size,
            row_multiple=self.generator.lm.layout.row_multiple,
            loss_mean=self.train.loss_mean,
        )

    def resume(self) -> bool:
        """Goes on from the newest whole checkpoint; False where there is none."""
        checkpoints = self.recorder.checkpoints
        found = checkpoints.restore_latest(self.trainer.abstract()) if checkpoints else None
        if found is None:
            return False
        self.done, saved, host = found
        self.trainer.restore(saved)
        self.trainer.tokens = host["trained_tokens"]
        self.source.restore(host["source"])
        self._packer = self._fitted()
        self.rounds, self._round, self.stopped = host["rounds"], host["round"], host["stopped"]
        self.recorder.log.resume(self.done)
        self.recorder.watch.add(host["seconds"])
        self.run_state.load_state_dict(host["run_state"])
        return True

    def save(self) -> None:
        """Checkpoints the run as it stands, if it has moved since the last one."""
        checkpoints = self.recorder.checkpoints
        if checkpoints is None or checkpoints.latest() == self.done:
            return
        host = {
            "source": self.source.saved(),
            "rounds": self.rounds,
            "round": self._round,
            "stopped": self.stopped,
            "trained_tokens": self.trainer.tokens,
            "seconds": self.recorder.watch.seconds(),
            "run_state": self.run_state.state_dict(),
        }
        checkpoints.save(self.done, self.trainer.saved(), host)
        self._interval.begin()

    def spent(self) -> float:
        """Seconds of sampling, scoring and training until now, compilation apart."""
        seconds = self.recorder.watch.seconds()
        return sum(seconds[name] for name in UNLEARNING_STAGES)

    def run(self, after_round: Callable[[], None] = lambda: None) -> None:
        """All rounds that are left; `after_round` may add to the newest of `rounds`.

        Raises:
            Preempted: the process was asked to stop; the run is saved and can be resumed.
            UserError: losses that are not finite, or retain answers that are lost.
        """
        steps = algorithm.plan(
            len(self.source.ids),
            len(self._retain),
            self._rows_a_step,
            self.pmc.schedule.epochs,
            self.seed,
            start=self.done,
            retain_rows=self.pmc.schedule.retain_rows,
        )
        size = self.pmc.schedule.steps_per_round
        second = (self.done // size + 1) * size  # the first round compiles
        profiled = second if second < self.total_steps else self.done
        bar = progress(self.total_steps, "unlearn", "step", enabled=self.recorder.bars)
        with bar:
            bar.update(self.done)
            try:
                if self._round is not None and self.done % size == 0:  # stopped in `after_round`
                    after_round()
                    self._round = None
                # A run may have been resumed within a round.
                while not self.stopped and (
                    block := list(itertools.islice(steps, size - self.done % size))
                ):
                    with traced(self.recorder.profile if self.done == profiled else None):
                        self._take(block, bar, after_round)
            except Preempted:
                self.save()
                raise
        self.source.end()

    def _take(self, block, bar, after_round) -> None:
        """The steps of a round that are left, prepared for if that was not done yet."""
        preemption.check()
        if self._round is None:
            self._round = {**self._begin_round(block, bar), "losses": []}
        for step in block:
            self._train(step, bar)
            self.stopped = self._reason(step)
            if step is block[-1] or self.stopped:
                self._end_round()
                after_round()
                self._round = None
            self._checkpoint_if_due()
            if self.stopped:
                break
            if step is not block[-1]:
                preemption.check()

    def _begin_round(self, block, bar) -> dict[str, Any]:
        def note(text: str) -> None:
            bar.set_postfix_str(text, refresh=True)
            preemption.check()

        return dict(self.source.begin_round(block, self.trainer.model, note))

    def _checkpoint_if_due(self) -> None:
        every = self.recorder.output.checkpoint_every
        due = self.done % every == 0 if every else self._interval.is_over()
        if due:
            self.save()

    def _reason(self, step: algorithm.Step) -> str | None:
        """Why no step is to follow this one."""
        limit = self._max_seconds
        if limit is not None and multihost.broadcast_from_first(self.spent) >= limit:
            return f"method.max_seconds={limit:g} are over"
        ends_epoch = (step.index + 1) * self._rows_a_step // len(self.source.ids) > step.epoch
        if self._retained is None or not ends_epoch or self.done == self.total_steps:
            return None
        with self.recorder.watch.stage("score"):
            model = self.trainer.model
            if self.source.is_done(model) and self._retained.has_recovered(
                model, self.pmc.stop.max_retain_increase
            ):
                return "every question is resolved and the retain loss has recovered"
        return None

    def _train(self, step: algorithm.Step, bar) -> None:
        with self.recorder.watch.stage("train"):
            batch, sequences = self._batch(step)
            metrics = self.trainer.step(batch)
        self.done = step.index + 1
        losses = dict(zip(self._method.terms, metrics["terms"], strict=True))
        begins = not self._round["losses"]
        self._round["losses"].append(losses)
        self.recorder.log.scalars(
            self.done,
            sampled_score=self._round.get("sampled_score") if begins else None,
            **self.source.scalars(),
            **{f"{name}_loss": loss for name, loss in losses.items()},
            gradient_norm=metrics["gradient_norm"],
        )
        bar.update()
        bar.set_postfix_str(", ".join(f"{name} {loss:.2f}" for name, loss in losses.items()))
        self._guard.check(self.done, metrics, [s.id for s in sequences])

    def _end_round(self) -> None:
        losses = self._round.pop("losses")
        means = {f"{n}_loss": float(np.mean([one[n] for one in losses])) for n in losses[0]}
        self.rounds.append({"step": self.done, **self._round, **self.source.summary(), **means})

    def _batch(self, step: algorithm.Step) -> tuple[TrainBatch, list[TokenSequence]]:
        """What one step trains on."""
        rows = self.source.rows(step)
        names = [name for name in self._method.terms if name != "retain"]
        terms = [rows[name].sequences for name in names]
        weights = [rows[name].weights or [1.0] * len(rows[name].sequences) for name in names]
        factors = [rows[name].factor for name in names]
        reference = None
        if self._method.needs == "rows":
            reference = [rows[n].reference or [0.0] * len(rows[n].sequences) for n in names]
        if "retain" in self._method.terms:
            retain = [self._retain[i] for i in step.retain]
            terms, weights = [*terms, retain], [*weights, [1.0] * len(retain)]
            factors.append(1.0)
        batch = self._packer.pack(
            terms,
            np.multiply(factors, coefficients(self._objective)),
            weights=weights,
            micro_batches=self.train.accumulation_steps,
            reference=reference,
        )
        return batch, [sequence for term in terms for sequence in term]
