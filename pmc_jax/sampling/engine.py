"""The host side of sampling: groups, the grid of samples, segments and compaction.

Between segments of `SEGMENT` steps the host moves the samples that still decode into the smallest
grid of a short ladder, so that finished samples cost nothing and every shape compiles once. It
knows token ids, no text.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.errors import UserError
from pmc_jax.mesh import Layout
from pmc_jax.models.config import DecoderConfig
from pmc_jax.sampling import decode as device
from pmc_jax.sampling.choose import Sampler
from pmc_jax.sampling.weights import SamplingWeights

SEGMENT = 16
_PROMPT_MULTIPLE = 16
_RUNGS = 4
# Below this many samples a decode step costs what reading the weights costs: no smaller grid pays.
_FEWEST_CELLS = 16


@dataclasses.dataclass
class Usage:
    """Counts over calls of `generate`.

    Attributes:
        useful: tokens generated, end tokens included.
        computed: grid cells x steps run.
    """

    useful: int = 0
    computed: int = 0


@dataclasses.dataclass(frozen=True)
class Samples:
    """K answers to each of some questions.

    Attributes:
        rows: which prompts, as indices into the list given to `generate`.
        tokens: i32[len(rows), K, max_new_tokens], -1 after the end; the end token is left out.
        length: i32[len(rows), K], tokens before the end.
        ended: bool[len(rows), K], False where max_new_tokens came first.
    """

    rows: np.ndarray
    tokens: np.ndarray
    length: np.ndarray
    ended: np.ndarray


@dataclasses.dataclass(frozen=True)
class Engine:
    """The fixed choices of a sampling run.

    Attributes:
        config, layout: of the weights that `generate` is given; `layout` by the sampling table.
        sampler: token choice.
        num_samples: K answers a prompt.
        max_new_tokens: tokens at most, the end token included.
        end_tokens: any of these ends an answer.
        group_size: prompts decoded together.
        prompt_size: P: every prompt is padded to this many tokens; one shape a run.
    """

    config: DecoderConfig
    layout: Layout
    sampler: Sampler
    num_samples: int
    max_new_tokens: int
    end_tokens: tuple[int, ...]
    group_size: int
    prompt_size: int

    def ladder(self, group: int) -> list[tuple[int, int]]:
        """Grids (B, K), largest first: samples a row halved first, then rows."""
        b, k = group, self.num_samples
        rungs = [(b, k)]
        while len(rungs) < _RUNGS:
            if k > 1:
                k = -(-k // 2)
            elif b > 1 and (b // 2) % self.layout.row_multiple == 0:
                b //= 2
            else:
                break
            if b * k < _FEWEST_CELLS:
                break
            rungs.append((b, k))
        return rungs

    def generate(
        self,
        weights: SamplingWeights,
        prompts: Sequence[Sequence[int]],
        *,
        key: jax.Array,
        ids: Sequence[int],
        expected: Sequence[int] | None = None,
        usage: Usage | None = None,
        progress: Callable[[int], None] = lambda tokens: None,
    ) -> Iterator[Samples]:
        """Samples answers, group by group.

        A sample depends on the weights, its prompt, `key`, its id and its number only: in float32
        neither the grouping nor the number of devices changes it.

        Args:
            prompts: token ids of each prompt.
            key: jax.random key.
            ids: one integer a prompt, folded into `key`.
            expected: guessed length of each answer; prompts of similar length are decoded together.
            usage: counts are added to it.
            progress: called with the number of new useful tokens after each segment.

        Raises:
            UserError: a prompt longer than `prompt_size`, or without tokens.
        """
        for i, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self.prompt_size:
                raise UserError(
                    f"prompt {i} has {len(prompt)} tokens; expected 1 to {self.prompt_size}"
                )
        usage = Usage() if usage is None else usage
        order = np.arange(len(prompts))
        if expected is not None:
            order = np.argsort(-np.asarray(expected), kind="stable")
        group = round_up(self.group_size, self.layout.row_multiple)
        for begin in range(0, len(prompts), group):
            rows = order[begin : begin + group]
            row_ids = [int(ids[r]) for r in rows]
            draws = _uniforms(key, row_ids, self.num_samples, self.max_new_tokens)
            yield self._group(
                weights, rows, [prompts[r] for r in rows], draws, group, usage, progress
            )

    def _group(self, weights, rows, prompts, uniform, group, usage, progress) -> Samples:
        """Decodes one group; uniform f32[n,K,max_new_tokens] on the host."""
        count, k = len(prompts), self.num_samples
        put = self.layout.put
        # Two prefill shapes: a full group, and a quarter for the few questions of a late round.
        few = round_up(-(-group // 4), self.layout.row_multiple)
        tokens = np.zeros((few if count <= few else group, self.prompt_size), np.int32)
        valid = np.zeros(tokens.shape, bool)
        valid[:, -1] = True
        for i, prompt in enumerate(prompts):
            tokens[i, -len(prompt) :] = prompt
            valid[i, -len(prompt) :] = True
        static = dict(config=self.config, layout=self.layout)
        choice = dict(sampler=self.sampler, end_tokens=self.end_tokens)
        prefix, logits = device.prefill(
            weights, put(tokens, "rows", None), put(valid, "rows", None), **static
        )
        ladder = self.ladder(group)
        live = np.stack(np.meshgrid(np.arange(count), np.arange(k), indexing="ij"), -1).reshape(
            -1, 2
        )
        grid = _arrange(live, ladder)
        segments = -(-(self.max_new_tokens - 1) // SEGMENT)
        prefix, state = device.start(
            prefix,
            logits,
            put(grid.rows, "rows"),
            put(grid.active, "rows", None),
            put(uniform[grid.question, grid.sample, 0], "rows", None),
            slots=max(segments, 1) * SEGMENT,
            **choice,
            **static,
        )
        out = np.full((count, k, self.max_new_tokens), -1, np.int32)
        first = np.asarray(state.last)
        out[grid.question[grid.active], grid.sample[grid.active], 0] = first[grid.active]
        usage.computed += grid.active.size
        usage.useful += len(live)
        for position in range(1, self.max_new_tokens, SEGMENT):
            done = np.asarray(state.done)
            if done.all():
                break
            live = np.stack([grid.question[~done], grid.sample[~done]], -1)
            smaller = _arrange(live, ladder)
            if smaller.active.size < grid.active.size:
                prefix, state = device.compact(
                    prefix,
                    state,
                    *(put(x, "rows", *[None] * (x.ndim - 1)) for x in smaller.taken_from(grid)),
                    layout=self.layout,
                )
                grid = smaller
            stop = min(position + SEGMENT, self.max_new_tokens)
            draws = np.zeros((SEGMENT, *grid.active.shape), np.float32)
            draws[: stop - position] = np.moveaxis(
                uniform[grid.question, grid.sample, position:stop], -1, 0
            )
            state, new = device.decode(
                weights,
                prefix,
                state,
                put(draws, None, "rows", None),
                jnp.int32(position),
                jnp.int32(stop),
                **choice,
                **static,
            )
            new = np.moveaxis(np.asarray(new), 0, -1)[..., : stop - position]
            out[grid.question[grid.active], grid.sample[grid.active], position:stop] = new[
                grid.active
            ]
            useful, ran = int((new >= 0).sum()), int((new >= 0).any((0, 1)).sum())
            usage.useful += useful
            usage.computed += ran * grid.active.size
            progress(useful)
        ends = np.isin(out, self.end_tokens)
        ended = ends.any(-1)
        length = np.where(ended, ends.argmax(-1), (out >= 0).sum(-1))
        out[np.arange(self.max_new_tokens) >= length[..., None]] = -1
        return Samples(rows, out, length.astype(np.int32), ended)


def prompt_size(prompts: Sequence[Sequence[int]]) -> int:
    """The smallest allowed P that holds every prompt."""
    return round_up(max(map(len, prompts)), _PROMPT_MULTIPLE)


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _uniforms(key: jax.Array, ids: Sequence[int], num_samples: int, steps: int) -> np.ndarray:
    """f32[n,K,T] in [0, 1); the draws of a sample depend on `key`, its id and its number only."""
    words = np.asarray(jax.random.key_data(key)).tolist()

    def draws(id_: int, sample: int) -> np.ndarray:
        return np.random.default_rng([*words, id_, sample]).random(steps, np.float32)

    return np.stack([[draws(id_, k) for k in range(num_samples)] for id_ in ids])


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where each sample sits: question, sample i32[B,K] (0 where unused), active bool[B,K], rows
    i32[B].
    """

    question: np.ndarray
    sample: np.ndarray
    active: np.ndarray
    rows: np.ndarray

    def taken_from(self, old: "_Grid") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments rows, cells, active of `decode.compact`."""
        where = {
            (q, s): i
            for i, (q, s, a) in enumerate(
                zip(old.question.flat, old.sample.flat, old.active.flat, strict=True)
            )
            if a
        }
        cells = np.zeros(self.active.shape, np.int32)
        for at in zip(*np.nonzero(self.active), strict=True):
            cells[at] = where[self.question[at], self.sample[at]]
        return (cells[:, 0] // old.active.shape[1]).astype(np.int32), cells, self.active


def _arrange(live: np.ndarray, ladder: list[tuple[int, int]]) -> _Grid:
    """Puts samples [n,2] = (question, sample) into the smallest grid of the ladder that holds them.

    A grid row serves one question; a question with more live samples than a row has cells takes
    several rows.
    """
    questions, counts = np.unique(live[:, 0], return_counts=True)
    fits = [(b, k) for b, k in ladder if np.sum(-(-counts // k)) <= b]
    b, k = min(fits, key=lambda grid: grid[0] * grid[1])
    question, sample = np.zeros((b, k), np.int32), np.zeros((b, k), np.int32)
    active, row = np.zeros((b, k), bool), 0
    for q in questions:
        samples = live[live[:, 0] == q, 1]
        for begin in range(0, len(samples), k):
            part = samples[begin : begin + k]
            question[row], sample[row, : len(part)], active[row, : len(part)] = q, part, True
            row += 1
    return _Grid(question, sample, active, question[:, 0].copy())
