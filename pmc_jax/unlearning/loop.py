"""The host loop of PMC: batched on-device sampling and collapse gradient updates in turn.

A round samples all unresolved questions of its next N steps under one snapshot of the weights,
then takes these N steps. N = 1 is the paper's algorithm. While the device decodes one group of
questions, a host thread scores the group before. The algorithm itself is in `pmc.py`; files,
folders and evaluation are the caller's.
"""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from pmc_jax import hosts, preemption
from pmc_jax.answers import Speaker
from pmc_jax.checkpoint import Interval
from pmc_jax.config import DataConfig, PMCConfig, TrainConfig
from pmc_jax.data.encode import Packer, Sequence_, shared_prefix
from pmc_jax.data.records import ForgetSet, RetainSet
from pmc_jax.errors import Preempted, UserError
from pmc_jax.profiling import traced
from pmc_jax.recorder import Recorder
from pmc_jax.sampling.choose import Sampler
from pmc_jax.sampling.engine import Usage
from pmc_jax.tracker import progress
from pmc_jax.train_batch import TrainBatch
from pmc_jax.unlearning import pmc as algorithm
from pmc_jax.unlearning.guard import Guard
from pmc_jax.unlearning.scores import Score, resolve_score
from pmc_jax.unlearning.store import ResponseStore
from pmc_jax.unlearning.trainer import Trainer

# A stored answer is tokenised again for training and may come out a little longer than it was
# sampled.
_SLACK_TOKENS = 8


class Unlearning:
    """One PMC run over a forget set: `run`, then read `trainer.model`, `store` and `rounds`.

    Args:
        speaker: the model to start from, and how to ask it.
        forget: questions only.
        retain: pairs that anchor everything else.
        pmc, train, data: settings; of `data` only `max_length` and `long_rows` are read.
        seed: of sampling, order and pairing.
        originals: the untouched model's greedy answers to `forget.questions`.
        recorder: log, clock, checkpoints.
        score: overrides `pmc.score`: a function (original, samples) -> scores, lower is better.
        donate: the model's buffers may be taken over.

    Raises:
        UserError: empty sets, rows or prompts that are too long, an unknown score.
    """

    def __init__(
        self,
        speaker: Speaker,
        forget: ForgetSet,
        retain: RetainSet,
        *,
        pmc: PMCConfig,
        train: TrainConfig,
        data: DataConfig,
        seed: int,
        originals: Sequence[str],
        recorder: Recorder,
        score: str | Score | None = None,
        donate: bool = False,
    ):
        for name, rows in (("forget", forget), ("retain", retain)):
            if not len(rows):
                raise UserError(f"data.{name}: no rows; PMC needs at least one")
        self.speaker, self.forget, self.seed = speaker, forget, seed
        self.pmc, self.train = pmc, train
        self.recorder = recorder
        self.usage = Usage()
        self.rounds: list[dict[str, Any]] = []
        self.store = ResponseStore(forget.ids, guard_empty=pmc.guard_empty)
        self._score = resolve_score(
            pmc.score if score is None else score, min_len=pmc.min_len, guard_empty=pmc.guard_empty
        )
        self._retain = speaker.sequences(retain.questions, retain.answers, data, ids=retain.ids)
        self._prompts = speaker.prompts(forget.questions, pmc.max_new_tokens)
        self._begin_from(originals)
        self._rows_a_step = train.batch_size * train.accumulation_steps
        self.total_steps = algorithm.total_steps(len(forget), self._rows_a_step, pmc.epochs)
        lm = speaker.lm
        self.trainer = Trainer(
            lm.model,
            lm.config,
            lm.layout,
            train,
            self.total_steps,
            speaker.dtype,
            donate=donate,
            seed=seed,
        )
        self._engine = speaker.engine(
            self._prompts,
            Sampler(pmc.temperature, pmc.top_k, pmc.top_p),
            num_samples=pmc.num_samples,
            max_new_tokens=pmc.max_new_tokens,
            batch_size=pmc.sample_batch_size,
            most=self._rows_a_step * pmc.steps_per_round,
        )
        self._guard = Guard(train, "train", max_retain_loss=pmc.max_retain_loss)
        self.done = 0
        # Of a round that has sampled: the mean score that was selected, how many questions were
        # asked, and the losses of the steps taken.
        self._round: dict[str, Any] | None = None
        self._interval = Interval()

    def _begin_from(self, originals: Sequence[str]) -> None:
        """Takes the original answers, and the shapes that follow from them."""
        encoder = self.speaker.encoder
        self.originals = dict(zip(self.forget.ids, originals, strict=True))
        answers = hosts.rows(lambda i: encoder.answer(originals[i]), len(originals))
        self._expected = [len(answer) for answer in answers]
        prompts = [s.tokens[: s.begin].tolist() for s in self._retain] + self._prompts
        prefix = shared_prefix(prompts)
        room = self.pmc.max_new_tokens + len(encoder.answer("")) + _SLACK_TOKENS
        retain = [len(s) for s in self._retain]
        forget = [len(p) + n for p, n in zip(self._prompts, self._expected, strict=True)]
        self._packer = Packer.fit(
            prefix,
            typical=retain + forget,
            longest=max(retain + [len(p) + room for p in self._prompts]),
            batch=2 * self.train.batch_size,
            row_multiple=self.speaker.lm.layout.row_multiple,
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
        self.store = ResponseStore.from_dict(host["store"], ids=self.forget.ids)
        self._begin_from(host["originals"])
        self.rounds, self._round = host["rounds"], host["round"]
        self.usage = Usage(**host["usage"])
        self.recorder.log.resume(self.done)
        self.recorder.watch.add(host["seconds"])
        self.recorder.host.update(host["caller"])
        return True

    def save(self) -> None:
        """Checkpoints the run as it stands, if it has moved since the last one."""
        checkpoints = self.recorder.checkpoints
        if checkpoints is None or checkpoints.latest() == self.done:
            return
        host = {
            "store": self.store.to_dict(),
            "originals": [self.originals[id_] for id_ in self.forget.ids],
            "rounds": self.rounds,
            "round": self._round,
            "usage": dataclasses.asdict(self.usage),
            "trained_tokens": self.trainer.tokens,
            "seconds": self.recorder.watch.seconds(),
            "caller": self.recorder.host,
        }
        checkpoints.save(self.done, self.trainer.saved(), host)
        self._interval.begin()

    def run(self, after_round: Callable[[], None] = lambda: None) -> None:
        """All rounds that are left; `after_round` may add to the newest of `rounds`.

        Raises:
            Preempted: the process was asked to stop; the run is saved and can be resumed.
            UserError: losses that are not finite, or retain answers that are lost.
        """
        steps = algorithm.plan(
            len(self.forget),
            len(self._retain),
            self._rows_a_step,
            self.pmc.epochs,
            self.seed,
            start=self.done,
        )
        size = self.pmc.steps_per_round
        second = (self.done // size + 1) * size  # the first round compiles
        profiled = second if second < self.total_steps else self.done
        bar = progress(self.total_steps, "unlearn", "step", enabled=self.recorder.bars)
        with bar, concurrent.futures.ThreadPoolExecutor(1) as scorer:
            bar.update(self.done)
            try:
                if self._round is not None and self.done % size == 0:  # stopped in `after_round`
                    after_round()
                    self._round = None
                # A run may have been resumed within a round.
                while block := list(itertools.islice(steps, size - self.done % size)):
                    with traced(self.recorder.profile if self.done == profiled else None):
                        self._take(block, scorer, bar, after_round)
            except Preempted:
                self.save()
                raise

    def _take(self, block, scorer, bar, after_round) -> None:
        """The steps of a round that are left, sampled for if that was not done yet."""
        preemption.check()
        if self._round is None:
            self._round = self._sample(block, scorer, bar)
        for step in block:
            self._train(step, bar)
            if step is block[-1]:
                self._end_round()
                after_round()
                self._round = None
            self._checkpoint_if_due()
            if step is not block[-1]:
                preemption.check()

    def _checkpoint_if_due(self) -> None:
        every = self.recorder.output.checkpoint_every
        due = self.done % every == 0 if every else self._interval.is_over()
        if due:
            self.save()

    def _sample(self, block, scorer, bar) -> dict[str, Any]:
        """Samples and scores the unresolved questions of a round, which then begins."""
        ids = [self.forget.ids[i] for step in block for i in step.forget]
        unresolved = self.store.unresolved(ids)
        if not unresolved:
            return {"selected": None, "mean": None, "std": None, "asked": 0, "losses": []}
        watch, first = self.recorder.watch, block[0].index
        index = {id_: i for i, id_ in enumerate(self.forget.ids)}
        numbers = [index[id_] for id_ in unresolved]
        # A copy, taken over at the end: a round that is given up has changed nothing.
        usage = dataclasses.replace(self.usage)

        def choose(texts: dict[int, list[str]]) -> list[tuple[int, int, float, list[float]]]:
            # One by one: questions come as their samples end, which no result may depend on.
            return [
                (row, *chosen)
                for row, answers in texts.items()
                for chosen in algorithm.choose(
                    [self.originals[unresolved[row]]],
                    [answers],
                    self._score,
                    self.pmc.selection,
                    self.pmc.tau,
                    algorithm.selection_rng(self.seed, first, numbers[row]),
                    guard_empty=self.pmc.guard_empty,
                )
            ]

        def note(tokens: int) -> None:
            bar.set_postfix_str(f"sampling {usage.useful:,} tokens", refresh=True)
            preemption.check()

        with watch.stage("sample"):
            weights = self.speaker.snapshot(self.trainer.model)
            groups = self.speaker.texts(
                self._engine,
                weights,
                [self._prompts[i] for i in numbers],
                key=jax.random.fold_in(jax.random.key(self.seed), first),
                ids=numbers,
                expected=[self._expected[i] for i in numbers],
                usage=usage,
                progress=note,
            )
            sampled, pending = [], []
            for samples, texts in groups:
                for i, row in enumerate(samples.rows.tolist()):
                    sampled.append((row, texts.get(row), samples, i))
                pending.append(scorer.submit(choose, texts))
        with watch.stage("score"):
            own = [chosen for p in pending for chosen in p.result()]
            chosen = {row: rest for share in hosts.gather(own) for row, *rest in share}
            for row, texts, samples, i in sampled:
                k, score, _ = chosen[row]
                answer = texts[k] if texts else self.speaker.text(samples, i, k)
                self.store.offer(unresolved[row], answer, score)
        self.usage = usage
        # In the order of the questions: sums do not depend on whose samples ended first.
        scores = [chosen[row][1:] for row in range(len(unresolved))]
        return {**algorithm.score_moments(scores), "asked": len(unresolved), "losses": []}

    def _train(self, step: algorithm.Step, bar) -> None:
        with self.recorder.watch.stage("train"):
            terms = self._terms(step)
            metrics = self.trainer.step(self._batch(step, terms))
        self.done = step.index + 1
        collapse, retain = metrics["terms"]
        begins = not self._round["losses"]
        self._round["losses"].append([collapse, retain])
        self.recorder.log.scalars(
            self.done,
            selected_score=self.store.mean_score(),
            sampled_score=self._round["selected"] if begins else None,
            unresolved=len(self.store.unresolved(self.forget.ids)),
            collapse_loss=collapse,
            retain_loss=retain,
            gradient_norm=metrics["gradient_norm"],
        )
        bar.update()
        bar.set_postfix_str(
            f"score {self.store.mean_score():.2f}, collapse {collapse:.2f}, retain {retain:.2f}"
        )
        self._guard.check(self.done, metrics, [s.id for term in terms for s in term])

    def _end_round(self) -> None:
        collapse, retain = np.mean(self._round["losses"], axis=0)
        overlap = algorithm.overlap(
            [self.originals[id_] for id_ in self.forget.ids],
            [self.store.answer(id_) for id_ in self.forget.ids],
        )
        self.rounds.append(
            {
                "step": self.done,
                "mean_score": self.store.mean_score(),
                "sampled_score": self._round["selected"],
                "score_mean": self._round["mean"],
                "score_std": self._round["std"],
                "sampled_questions": self._round["asked"],
                "unresolved": len(self.store.unresolved(self.forget.ids)),
                "overlap_with_original": overlap,
                "collapse_loss": float(collapse),
                "retain_loss": float(retain),
            }
        )

    def _terms(self, step: algorithm.Step) -> list[list[Sequence_]]:
        """The forget rows of a step with their stored answers, and its retain rows."""
        forget = [self._forget_sequence(i) for i in step.forget]
        return [forget, [self._retain[i] for i in step.retain]]

    def _batch(self, step: algorithm.Step, terms: list[list[Sequence_]]) -> TrainBatch:
        ids = [self.forget.ids[i] for i in step.forget]
        weights = self.store.trainable(ids, self.pmc.max_train_score)
        return self._packer.pack(
            terms,
            [1.0, self.pmc.lambda_retain],
            weights=[weights, [1.0] * len(terms[1])],
            micro_batches=self.train.accumulation_steps,
        )

    def _forget_sequence(self, index: int) -> Sequence_:
        prompt = self._prompts[index]
        answer = self.speaker.encoder.answer(self.store.answer(self.forget.ids[index]) or "")
        room = self._packer.longest + len(self._packer.prefix)
        room = min(room, self.speaker.lm.config.longest(len(prompt))) - len(prompt)
        tokens = np.array(prompt + answer[:room], np.int32)
        return Sequence_(tokens, len(prompt), self.forget.ids[index])
