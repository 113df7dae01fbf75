"""Continuous batching, which assigns samples to the slots of the decode batch and runs the decoder.

Between two calls of the decoder, the host assigns waiting samples to idle slots. As long as samples
wait, a call ends early when a sixteenth of the slots has become idle (`Engine.refill_fraction`).
When no sample waits, the active samples move into a smaller batch as soon as it holds them. The
batch has one of a few fixed shapes, and each shape is compiled once.

Index spaces:
    question id: integer that names a question throughout a run and is part of the random seed.
    question index: position of a prompt in the list that is passed to one call of `generate`.
    row: part of the decode batch that holds one prompt and serves one question at a time.
    slot: position in a row that one sample occupies while it decodes.
    sample: number of an answer to its question, 0 to K - 1.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.distributed.mesh import round_up
from pmc_jax.sampling.decode import (
    Slots,
    compact_batch,
    decode,
    load_prompt,
    sample_first_tokens,
    start_batch,
)
from pmc_jax.sampling.prefill import PromptCache, prefill
from pmc_jax.sampling.scheduler import Batch, Scheduler, compacted
from pmc_jax.sampling.snapshot import SamplingWeights

if TYPE_CHECKING:
    from pmc_jax.sampling.engine import Engine


@dataclasses.dataclass
class Usage:
    """Counters over several calls of `Engine.generate`.

    Attributes:
        useful: number of generated tokens, end tokens included.
        computed: number of tokens that the device computed, those of idle slots included.
        cut: number of samples that ended early, because they could no longer be selected.
    """

    useful: int = 0
    computed: int = 0
    cut: int = 0


@dataclasses.dataclass
class ContinuousBatching:
    """State of one call of `Engine.generate`: arrays on the device, and the sample in each slot.

    `order` holds the indices of the questions that are not yet prefilled. The other fields are the
    engine and arguments of `Engine.generate`.
    """

    engine: "Engine"
    weights: SamplingWeights
    prompts: Sequence[Sequence[int]]
    order: list[int]
    key: jax.Array
    ids: Sequence[int]
    usage: Usage

    def __post_init__(self):
        engine = self.engine
        self.scheduler = Scheduler(
            len(self.prompts), engine.num_samples, engine.max_new_tokens, engine.end_tokens
        )
        self._key_words = np.asarray(jax.random.key_data(self.key)).tolist()
        self._put, self._buckets, self._steps_run = engine.layout.put, engine.buckets(), 0
        # Each (question, sample) has uniform random numbers f32[max_new_tokens, draws].
        self._sample_draws: dict[tuple[int, int], np.ndarray] = {}
        # Each entry has prefilled prompts with waiting samples, and the position of each question.
        self._prefilled: list[tuple[PromptCache, dict[int, int]]] = []
        self._batch: Batch | None = None
        self._prompt_cache = self._cache = self._tokens = self._nll = None

    def prepare(self) -> list[int]:
        """Fills idle slots with waiting samples, or moves to a smaller batch if no sample waits.

        Returns:
            The indices of the newly prefilled questions whose samples all end after one token.
        """
        ended = []
        while self.order and self._lacks_samples():
            ended += self._prefill()
        if self._batch is None and self.scheduler.waiting:
            self._start()
        if self._batch is None:
            return ended
        self._load_prompts(self.scheduler.assign(self._batch))
        waiting = self.scheduler.waiting
        self._prefilled = [(p, rows) for p, rows in self._prefilled if waiting.keys() & rows]
        if not waiting and not self.order and (move := compacted(self._batch, self._buckets)):
            smaller, old_slots = move
            old_rows = old_slots[:, 0] // self._batch.question.shape[1]
            self._prompt_cache, self._cache = compact_batch(
                self._prompt_cache,
                self._cache,
                self._put(old_rows.astype(np.int32), "rows"),
                self._put(old_slots, "rows", None),
                layout=self.engine.layout,
            )
            self._batch = smaller
        return ended

    def _lacks_samples(self) -> bool:
        """Returns whether more prompts must be prefilled to fill the idle slots."""
        waiting = self.scheduler.waiting
        if self._batch is None:
            return sum(map(len, waiting.values())) < math.prod(self._buckets[0])
        busy = self._batch.active.any(1)
        unassigned = waiting.keys() - self._batch.rows[busy].tolist()
        return int((~busy).sum()) > len(unassigned)

    def _load_prompts(self, new_prompts: list[tuple[int, int]]) -> None:
        """Copies prefilled prompts into rows of the decode batch.

        `new_prompts` has pairs of a row and a question index.
        """
        for row, question in new_prompts:
            source, i = next((p, rows[question]) for p, rows in self._prefilled if question in rows)
            row, i = jnp.int32(row), jnp.int32(i)
            self._prompt_cache = load_prompt(
                self._prompt_cache, source, row, i, layout=self.engine.layout
            )

    def _prefill(self) -> list[int]:
        engine = self.engine
        # Prefill has two shapes: the full batch, and a quarter of it for few questions, as in late
        # rounds.
        multiple = engine.layout.row_multiple
        most = min(self._buckets[0][0], round_up(engine.prefill_batch, multiple))
        few = round_up(-(-most // 4), multiple)
        questions, self.order = self.order[:most], self.order[most:]
        tokens = np.zeros((few if len(questions) <= few else most, engine.prompt_size), np.int32)
        valid = np.zeros(tokens.shape, bool)
        valid[:, -1] = True
        uniform = np.zeros((len(tokens), engine.num_samples, engine.sampler.draws), np.float32)
        for i, question in enumerate(questions):
            prompt = self.prompts[question][len(engine.shared_prefix) :]
            tokens[i, -len(prompt) :], valid[i, -len(prompt) :] = prompt, True
            for k in range(engine.num_samples):
                rng = np.random.default_rng([*self._key_words, int(self.ids[question]), k])
                draws = rng.random((engine.max_new_tokens, engine.sampler.draws), np.float32)
                self._sample_draws[question, k], uniform[i, k] = draws, draws[0]
        shared_prefix = self._put(np.array(engine.shared_prefix, np.int32), None)
        tokens, valid = (self._put(x, "rows", None) for x in (tokens, valid))
        uniform, layout = self._put(uniform, "rows", None, None), {"layout": engine.layout}
        static = {"config": engine.config, "cache_dtype": engine.cache_dtype, **layout}
        prompt_cache, logits = prefill(self.weights, shared_prefix, tokens, valid, **static)
        first, nll = sample_first_tokens(logits, uniform, sampler=engine.sampler, **layout)
        drawn = len(questions) * engine.num_samples
        self.usage.useful += drawn
        self.usage.computed += drawn
        first, nll = (np.asarray(x)[: len(questions)] for x in (first, nll))
        ended = self.scheduler.start(questions, first, nll)
        if rows := {q: i for i, q in enumerate(questions) if q in self.scheduler.waiting}:
            self._prefilled.append((prompt_cache, rows))
        return ended

    def _start(self) -> None:
        """Creates the first decode batch and assigns the waiting samples.

        The batch has the smallest shape that holds all samples, or the largest shape if no shape
        holds them all.
        """
        counts = np.array([len(samples) for samples in self.scheduler.waiting.values()])
        fitting = [(b, k) for b, k in self._buckets if np.sum(-(-counts // k)) <= b]
        b, k = min(fitting, key=math.prod) if fitting and not self.order else self._buckets[0]
        self._batch = Batch.empty(b, k)
        prompt_cache, positions = self._prefilled[0]
        rows, later = np.zeros(b, np.int32), []
        for row, question in self.scheduler.assign(self._batch):
            if question in positions:
                rows[row] = positions[question]
            else:
                later.append((row, question))
        engine = self.engine
        cache_size = round_up(max(engine.max_new_tokens - 1, 1), engine.decode_chunk)
        static = {"slots": k, "cache_size": cache_size, "layout": engine.layout}
        rows = self._put(rows, "rows")
        self._prompt_cache, self._cache = start_batch(prompt_cache, rows, **static)
        self._load_prompts(later)

    def decode(self) -> bool:
        """Starts a call of the decoder on the device, and returns without waiting for its result.

        The method returns False if no sample is left to decode.
        """
        if self._batch is None or not self._batch.active.any():
            return False
        engine, batch, scheduler = self.engine, self._batch, self.scheduler
        shape = batch.question.shape
        last, age, left = (np.zeros(shape, np.int32) for _ in range(3))
        uniform = np.zeros((engine.decode_chunk, *shape, engine.sampler.draws), np.float32)
        for slot in batch.active_slots():
            sample = int(batch.question[slot]), int(batch.sample[slot])
            count = scheduler.count[sample]
            last[slot], age[slot] = scheduler.tokens[sample][count - 1], count
            left[slot] = engine.max_new_tokens - count
            draws = self._sample_draws[sample][count : count + engine.decode_chunk]
            uniform[(slice(len(draws)), *slot)] = draws
        self._cache, self._tokens, self._nll = decode(
            self.weights,
            self._prompt_cache,
            self._cache,
            Slots(*(self._put(x, "rows", None) for x in (last, age, left))),
            self._put(uniform, None, "rows", None, None),
            jnp.int32(self._steps_run),
            jnp.int32(self._stop_when_active()),
            sampler=engine.sampler,
            end_tokens=engine.end_tokens,
            config=engine.config,
            layout=engine.layout,
        )
        return True

    def _stop_when_active(self) -> int:
        """Returns the number of active samples at which the next call of the decoder ends.

        The host can then fill the idle slots, or move the samples to a smaller batch.
        """
        active, slots = int(self._batch.active.sum()), self._batch.active.size
        if self.order or self.scheduler.waiting:
            return max(active - max(1, int(slots * self.engine.refill_fraction)), 0)
        smaller = [b * k for b, k in self._buckets if b * k < slots]
        return min(max(smaller), active - 1) if smaller else 0

    def collect(self) -> tuple[int, list[int]]:
        """Waits for the call that `decode` started, and stores its tokens.

        Returns:
            The number of generated tokens, and the indices of the questions whose samples have all
            ended.
        """
        new = np.asarray(self._tokens)
        steps, useful = int((new >= 0).any((1, 2)).sum()), int((new >= 0).sum())
        self._steps_run += steps
        self.usage.useful += useful
        self.usage.computed += steps * self._batch.active.size
        return useful, self.scheduler.append_tokens(self._batch, new, np.asarray(self._nll))

    def end_early(self, samples: Iterable[tuple[int, int]]) -> list[int]:
        """Ends samples before their last token (see `Scheduler.end_early`)."""
        before = self.scheduler.cut.sum()
        ended = self.scheduler.end_early(self._batch, samples)
        self.usage.cut += int(self.scheduler.cut.sum() - before)
        return ended
