"""Runs the host loop of unlearning: rounds, gradient steps and checkpoints.

In a round, a method first prepares rows under one snapshot of the weights. PMC samples answers in
this phase (see `pmc.run_round`). N gradient steps follow, and N = 1 is the paper's algorithm. The
loop does not depend on the algorithm: the `RowSource` provides the rows, and the `Objective`
defines the loss. The caller handles the output folder, the evaluation and the export.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from pmc_jax.artifacts.checkpoint import Interval
from pmc_jax.artifacts.log import progress
from pmc_jax.artifacts.recorder import Recorder, RunState
from pmc_jax.artifacts.timer import UNLEARNING_STAGES
from pmc_jax.config.run import Config
from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.data.records import RetainSet
from pmc_jax.distributed import multihost, preemption
from pmc_jax.errors import Preempted, UserError, about
from pmc_jax.sampling.generator import TextGenerator
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.divergence import DivergenceGuard
from pmc_jax.training.losses import Objective, coefficients
from pmc_jax.training.order import Step, focused, plan_steps, total_steps
from pmc_jax.training.packing import Packer
from pmc_jax.training.trainer import Trainer
from pmc_jax.unlearning.source import RowSource
from pmc_jax.unlearning.stopping import EarlyStop, RetainLoss

_MANY_SEQUENCES = 1000  # A step on more sequences takes so long that the bar announces it.


class Unlearning:
    """One run of an unlearning method.

    Call `run`, and then read `trainer.model` and `rounds`.

    Args:
        generator: the target model with its prompts and its decoding.
        source: the rows that the method trains on.
        retain: the retain pairs.
        config: settings of the run. Only `pmc`, `method`, `train`, `seed` and the row limits in
            `data` are read.
        recorder: log, stopwatch and checkpoints of the run.
        run_state: state of the caller, which checkpoints hold and `resume` restores.
        retain_shares: for each id of a retain pair, the share of the retain rows that are this
            pair. None draws uniformly.
        donate: whether the run may reuse the model's buffers. If so, the caller must not use the
            model again.

    Attributes:
        stopped: reason why the run ended before its last step, or None if the run did not end
            early.
        rounds: metrics of each finished round.
        done: number of finished gradient steps.

    Raises:
        UserError: there are no forget questions or no retain pairs, or a row is too long.
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
        retain_shares: Mapping[str, float] | None = None,
        donate: bool = False,
    ):
        for name, rows in (("forget", source.ids), ("retain", retain)):
            if not len(rows):
                raise UserError(f"data.{name} has no rows. Set data.{name} to a source with rows.")
        self.generator, self.source, self.recorder = generator, source, recorder
        self.run_state = run_state or RunState()
        self._config, self._schedule, self._train = config, config.pmc.schedule, config.train
        self.stopped: str | None = None
        self.rounds: list[dict[str, Any]] = []
        lm = generator.lm
        self._objective = Objective.of(
            config.method,
            lambda_retain=self._schedule.lambda_retain,
            layers=lm.config.num_layers,
            seed=config.seed,
        )
        self._method = self._objective.method
        self._retain = generator.sequences(
            retain.questions, retain.answers, config.data, ids=retain.ids
        )
        self._retain_shares = None
        if retain_shares is not None:
            kept = np.array([retain_shares[sequence.id] for sequence in self._retain])
            self._retain_shares = kept / kept.sum()
        self._rows_per_step = self._train.step_rows
        self.total_steps = total_steps(len(source.ids), self._rows_per_step, self._schedule.epochs)
        self._packer = self._fit_packer()
        self._retain_loss = None
        self.early_stop = EarlyStop(config, len(source.ids), self.total_steps)
        if config.pmc.stop.enabled:
            # The trainer below may reuse the buffers of the weights that are read here.
            self._retain_loss = RetainLoss(generator, self._retain, config.seed)
        self.trainer = Trainer(
            lm.model,
            lm.config,
            lm.layout,
            self._train,
            generator.dtype,
            donate=donate,
            seed=config.seed,
            objective=None if self._objective.is_linear else self._objective,
        )
        self._guard = DivergenceGuard(
            self._train, "train", max_retain_loss=self._schedule.max_retain_loss
        )
        self.done = 0
        # `_round` holds the metrics of the current round's preparation and the losses of its steps.
        self._round: dict[str, Any] | None = None
        self._interval = Interval()

    def _fit_packer(self) -> Packer:
        prompts = [s.tokens[: s.begin].tolist() for s in self._retain] + list(self.source.prompts)
        lengths = [len(s) for s in self._retain] + list(self.source.lengths)
        retain_rows = self._schedule.retain_rows
        sequences = sum(retain_rows if term == "retain" else 1 for term in self._method.terms)
        return Packer.fit(
            shared_prefix(prompts),
            lengths,
            batch=sequences * self._train.batch_size,
            row_multiple=self.generator.lm.layout.row_multiple,
            loss_mean=self._train.loss_mean,
            accumulation_mean=self._train.accumulation_mean,
        )

    def resume(self) -> bool:
        """Restores the newest complete checkpoint.

        Returns:
            True if a checkpoint was restored, or False if no complete checkpoint exists.

        Raises:
            UserError: no checkpoint can be read, or it belongs to another model, version or data.
        """
        checkpoints = self.recorder.checkpoints
        newest = checkpoints.restore_latest(self.trainer.abstract_state()) if checkpoints else None
        if newest is None:
            return False
        self.done, arrays, host = newest
        self.trainer.load_state_dict(arrays)
        with about(f"{checkpoints.folder / str(self.done)}"):
            try:
                self._load_host_values(host)
            except KeyError as error:
                raise UserError(
                    f"the checkpoint has no value for {error}. Another version of pmc wrote it. "
                    f"Resume with that version, or move {checkpoints.folder} away to restart the "
                    "run."
                ) from error
        self.recorder.log.resume(self.done)
        return True

    def _load_host_values(self, host: dict[str, Any]) -> None:
        self.trainer.tokens = host["trained_tokens"]
        self.source.load_state_dict(host["source"])
        self._packer = self._fit_packer()
        self.rounds, self._round, self.stopped = host["rounds"], host["round"], host["stopped"]
        self.early_stop.decay = host["decay"] and tuple(host["decay"])
        self.recorder.watch.add(host["seconds"])
        self.run_state.load_state_dict(host["run_state"])

    def save(self) -> None:
        """Saves a checkpoint, unless the run saves none or the newest one holds this step."""
        checkpoints = self.recorder.checkpoints
        if checkpoints is None or checkpoints.latest() == self.done:
            return
        host = {
            "source": self.source.state_dict(),
            "rounds": self.rounds,
            "round": self._round,
            "stopped": self.stopped,
            "decay": self.early_stop.decay,
            "total_steps": self.total_steps,
            "trained_tokens": self.trainer.tokens,
            "seconds": self.recorder.watch.seconds(),
            "run_state": self.run_state.state_dict(),
        }
        checkpoints.save(self.done, self.trainer.state_dict(), host)
        self._interval.begin()

    def go_back(self, step: int) -> None:
        """Restores the weights and the replacement answers of an earlier step.

        The metrics of the run do not change.

        Raises:
            UserError: the checkpoint of this step cannot be read.
        """
        arrays, host = self.recorder.checkpoints.read(step, self.trainer.abstract_state())
        usage = self.source.usage
        self.source.load_state_dict(host["source"])  # may raise an error, so the weights come last
        self.source.usage = usage
        self.trainer.load_state_dict(arrays)

    def spent(self) -> float:
        """Returns the seconds of sampling, scoring and training so far, without compilation."""
        seconds = self.recorder.watch.seconds()
        return sum(seconds[name] for name in UNLEARNING_STAGES)

    def remaining_steps(self) -> Iterator[Step]:
        """Yields the rows of each gradient step that is left."""
        return plan_steps(
            len(self.source.ids),
            len(self._retain),
            self._rows_per_step,
            self._schedule.epochs,
            self._config.seed,
            start=self.done,
            retain_rows=self._schedule.retain_rows,
            retain_shares=self._retain_shares,
        )

    def run(self, after_round: Callable[[], bool] = lambda: False) -> None:
        """Runs the remaining rounds.

        Args:
            after_round: function to call after each round, which may add metrics to `rounds[-1]`.
                The function returns whether to save a checkpoint of this step.

        Raises:
            Preempted: the process was asked to stop. A checkpoint was saved for `resume`.
            UserError: too many consecutive steps have a loss or gradient that is not finite, or the
                retain loss is too high.
        """
        steps = self.remaining_steps()
        size = self._schedule.steps_per_round
        second = (self.done // size + 1) * size  # The first round includes compilation.
        profiled = second if second < self.total_steps else self.done
        bar = progress(self.total_steps, "unlearn", "step", enabled=self.recorder.bars)
        with bar:
            bar.update(self.done)
            try:
                if self._round is not None and self.done % size == 0:
                    # The run was interrupted in `after_round`.
                    after_round()
                    self._round = None
                # A resumed run may start in the middle of a round.
                while not self.stopped and (
                    round_steps := list(itertools.islice(steps, size - self.done % size))
                ):
                    folder = self.recorder.profile if self.done == profiled else None
                    with jax.profiler.trace(folder) if folder else contextlib.nullcontext():
                        self._run_round(round_steps, bar, after_round)
            except Preempted:
                self.save()
                raise
        self.source.finish()

    def _run_round(self, steps: Sequence[Step], bar: tqdm, after_round: Callable[[], bool]) -> None:
        """Prepares a round, unless the run was resumed within the round, and runs its steps."""
        preemption.check()
        answered = self._focus() if self._round is None else self._round["focus"]
        steps = [focused(s, answered, self._schedule.focus, self._config.seed) for s in steps]
        if self._round is None:

            def report(text: str) -> None:
                bar.set_postfix_str(text, refresh=True)
                preemption.check()

            prepared = self.source.prepare_round(steps, self.trainer.model, report)
            self._round = {**prepared, "focus": answered, "losses": []}
        wanted = False
        for step in steps:
            self._take_step(step, bar)
            self.stopped = self._stop_reason()
            bar.total = self.early_stop.steps
            if step is steps[-1] or self.stopped:
                self._end_round()
                wanted = after_round()
                self._round = None
            every = self.recorder.output.checkpoint_every
            due = self.done % every == 0 if every else self._interval.is_over()
            if due or wanted:
                self.save()
            if self.stopped:
                break
            if step is not steps[-1]:
                preemption.check()

    def _focus(self) -> list[int]:
        """Returns the questions that the next round focuses on."""
        if not self._schedule.focus or self.done < self._train.warmup_steps:
            return []
        with self.recorder.watch.stage("sample"):
            return list(self.source.still_answered(self.trainer.model))

    def _stop_reason(self) -> str | None:
        """Returns the reason why a run ends early after this step, or None if it does not."""
        if self.done == self.total_steps:
            return None
        limit = self._config.method.max_seconds
        if limit is not None and multihost.broadcast(self.spent) >= limit:
            return f"the limit method.max_seconds={limit:g} is reached"
        if self.early_stop.update(self.done, self._is_complete):
            return "all questions were forgotten and the retain loss had recovered"
        return None

    def _is_complete(self) -> bool:
        model, margin = self.trainer.model, self._config.pmc.stop.max_retain_increase
        with self.recorder.watch.stage("sample"):
            # The loss takes less time than the answers.
            return self._retain_loss.has_recovered(model, margin) and self.source.is_done(model)

    def _take_step(self, step: Step, bar: tqdm) -> None:
        with self.recorder.watch.stage("train"):
            batch, sequences = self.batch(step)
            if len(sequences) > _MANY_SEQUENCES:
                bar.set_postfix_str(f"training on {len(sequences):,} sequences")
            rate = self.early_stop.learning_rate(step.index)
            metrics = self.trainer.step(batch, rate)
        self.done = step.index + 1
        losses = dict(zip(self._method.terms, metrics["terms"], strict=True))
        is_first = not self._round["losses"]
        self._round["losses"].append(losses)
        self.recorder.log.scalars(
            self.done,
            sampled_score=self._round.get("sampled_score") if is_first else None,
            **self.source.scalars(),
            **{f"{name}_loss": loss for name, loss in losses.items()},
            gradient_norm=metrics["gradient_norm"],
            learning_rate=rate,
        )
        bar.update()
        bar.set_postfix_str(", ".join(f"{name} {loss:.2f}" for name, loss in losses.items()))
        self._guard.check(self.done, metrics, [s.id for s in sequences])

    def _end_round(self) -> None:
        losses, answered = self._round.pop("losses"), self._round.pop("focus")
        if self._schedule.focus:
            self._round["still_answered"] = len(answered)
        means = {f"{n}_loss": float(np.mean([one[n] for one in losses])) for n in losses[0]}
        self.rounds.append({"step": self.done, **self._round, **self.source.summary(), **means})

    def batch(self, step: Step) -> tuple[TrainBatch, list[TokenSequence]]:
        """Returns the rows of a step as a packed batch and as separate sequences."""
        rows = self.source.rows(step, self._retain)
        terms = [rows[name] for name in self._method.terms]
        reference = None
        if self._method.needs == "rows":
            others = [rows[name] for name in self._method.terms if name != "retain"]
            reference = [term.reference or [0.0] * len(term.sequences) for term in others]
        batch = self._packer.pack(
            [term.sequences for term in terms],
            np.multiply([term.factor for term in terms], coefficients(self._objective)),
            weights=[term.weights or [1.0] * len(term.sequences) for term in terms],
            micro_batches=self._train.accumulation_steps,
            reference=reference,
        )
        return batch, [sequence for term in terms for sequence in term.sequences]
