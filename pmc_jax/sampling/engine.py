"""The host side of sampling: prefill, and the grid of cells that samples pass through.

Between segments the host gives idle cells the next samples; a segment ends when a sixteenth of the
cells fell idle, so hardly a slot is computed for nobody. When nothing is left to begin, the samples
that still decode move into the smallest grid of a short ladder: every shape compiles once. It knows
token ids, no text.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.distributed.mesh import Layout, round_up
from pmc_jax.errors import UserError
from pmc_jax.models.config import DecoderConfig
from pmc_jax.sampling import decode as device
from pmc_jax.sampling.buckets import ladder
from pmc_jax.sampling.prefill import Prefix, prefill
from pmc_jax.sampling.sampler import Sampler
from pmc_jax.sampling.scheduler import Grid, Schedule, shrunk
from pmc_jax.sampling.snapshot import SamplingWeights

SEGMENT = 16
# Prompts prefilled together.
_PROMPTS = 16
# A segment ends when one cell in so many fell idle and samples wait.
_REFILL = 16


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
        nats: f32[len(rows), K], mean negative log-probability a token at temperature 1, no token
            dropped, the end left out; nan without tokens, 0 where the sampler returns none.
    """

    rows: np.ndarray
    tokens: np.ndarray
    length: np.ndarray
    ended: np.ndarray
    nats: np.ndarray


@dataclasses.dataclass(frozen=True)
class Engine:
    """The fixed choices of a sampling run.

    Attributes:
        config, layout: of the weights that `generate` is given; `layout` by the sampling table.
        sampler: token choice.
        num_samples: K answers a prompt.
        max_new_tokens: tokens at most, the end token included.
        end_tokens: any of these ends an answer.
        grid: rows and cells a row of the largest grid, see `grid_shape`.
        prompt_size: what follows the opening is padded to this many tokens; one shape a run.
        opening: token ids that every prompt begins with, prefilled once for all of them; empty
            where `longrope` makes its keys depend on the length of the prompt.
        cache_dtype: of keys and values; None = of the weights.
    """

    config: DecoderConfig
    layout: Layout
    sampler: Sampler
    num_samples: int
    max_new_tokens: int
    end_tokens: tuple[int, ...]
    grid: tuple[int, int]
    prompt_size: int
    opening: tuple[int, ...] = ()
    cache_dtype: jnp.dtype | None = None

    def ladder(self) -> list[tuple[int, int]]:
        """Grids (B, K), largest first."""
        return ladder(self.grid, self.layout.row_multiple)

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
        """Samples answers; prompts come in the order in which all their samples have ended.

        A sample depends on the weights, its prompt, `key`, its id and its number only: in float32
        neither what decodes beside it nor the number of devices changes it. While the caller works
        on what it was given, the device decodes the next segment.

        Args:
            prompts: token ids of each prompt.
            key: jax.random key.
            ids: one integer a prompt, folded into `key`.
            expected: guessed length of each answer; long ones begin first.
            usage: counts are added to it.
            progress: called with the number of new useful tokens after each segment.

        Raises:
            UserError: a prompt with another opening, or without tokens after it, or with more
                than `prompt_size`.
        """
        skip = len(self.opening)
        for i, prompt in enumerate(prompts):
            if tuple(prompt[:skip]) != self.opening:
                raise UserError(f"prompt {i} does not begin with the opening of the others")
            if not 0 < len(prompt) - skip <= self.prompt_size:
                raise UserError(
                    f"prompt {i} has {len(prompt)} tokens; expected {skip + 1} to "
                    f"{skip + self.prompt_size}"
                )
        order = list(range(len(prompts)))
        if expected is not None:
            order.sort(key=lambda i: -expected[i])
        run = _Run(self, weights, prompts, order, _Draws(self, key, ids), usage or Usage())
        ended = run.prepare()
        while run.decode():
            if ended:
                yield self._samples(run.schedule, ended)
            useful, ended = run.collect()
            progress(useful)
            ended += run.prepare()
        if ended:
            yield self._samples(run.schedule, ended)

    def _samples(self, schedule: Schedule, rows: list[int]) -> Samples:
        out = schedule.tokens[rows]
        ends = np.isin(out, self.end_tokens)
        ended = ends.any(-1)
        length = np.where(ended, ends.argmax(-1), schedule.count[rows])
        over = np.arange(self.max_new_tokens) >= length[..., None]
        out[over] = -1
        with np.errstate(invalid="ignore"):
            nats = np.where(over, 0, schedule.nats[rows]).sum(-1) / length
        return Samples(np.array(rows), out, length.astype(np.int32), ended, nats)


class _Draws:
    """Uniform numbers in [0, 1): those of a sample depend on `key`, its id and its number only."""

    def __init__(self, engine: Engine, key: jax.Array, ids: Sequence[int]):
        self._words, self._ids = np.asarray(jax.random.key_data(key)).tolist(), ids
        self._shape = (engine.max_new_tokens, engine.sampler.draws)

    def of(self, question: int, sample: int) -> np.ndarray:
        """f32[max_new_tokens, draws]."""
        seed = [*self._words, int(self._ids[question]), sample]
        return np.random.default_rng(seed).random(self._shape, np.float32)


class _Run:
    """One call of `generate`: the arrays on the device and who sits where."""

    def __init__(
        self,
        engine: Engine,
        weights: SamplingWeights,
        prompts: Sequence[Sequence[int]],
        order: list[int],
        draws: _Draws,
        usage: Usage,
    ):
        self._engine, self._weights, self._prompts = engine, weights, prompts
        self._order, self._draws, self._usage = order, draws, usage
        self._put = engine.layout.put
        self._ladder, self._time = engine.ladder(), 0
        self.schedule = Schedule(
            len(prompts), engine.num_samples, engine.max_new_tokens, engine.end_tokens
        )
        # Prefilled prompts of which samples wait, with the index of each question in them.
        self._prefilled: list[tuple[Prefix, dict[int, int]]] = []
        self._grid: Grid | None = None
        self._prefix = self._cache = self._tokens = self._nats = None
        self._sample_draws: dict[tuple[int, int], np.ndarray] = {}

    def prepare(self) -> list[int]:
        """Fills idle cells, or moves to a smaller grid when nothing waits; returns questions whose
        samples all ended with their first token.
        """
        ended = []
        while self._order and self._lacks_samples():
            ended += self._prefill()
        if self._grid is None and self.schedule.waiting:
            self._start()
        if self._grid is None:
            return ended
        self._place(self.schedule.fill(self._grid))
        waiting = self.schedule.waiting
        self._prefilled = [(p, at) for p, at in self._prefilled if waiting.intersection(at)]
        if not waiting and not self._order and (found := shrunk(self._grid, self._ladder)):
            smaller, cells = found
            old_rows = cells[:, 0] // self._grid.question.shape[1]
            self._prefix, self._cache = device.compact(
                self._prefix,
                self._cache,
                self._put(old_rows.astype(np.int32), "rows"),
                self._put(cells, "rows", None),
                layout=self._engine.layout,
            )
            self._grid = smaller
        return ended

    def _lacks_samples(self) -> bool:
        """Whether cells would stay idle although prompts are left."""
        if self._grid is None:
            return sum(self.schedule.waiting_counts()) < math.prod(self._ladder[0])
        busy = self._grid.live.any(1)
        unplaced = self.schedule.waiting.difference(self._grid.rows[busy].tolist())
        return int((~busy).sum()) > len(unplaced)

    def _place(self, rows: list[tuple[int, int]]) -> None:
        """Puts the prompts of questions into rows."""
        for row, question in rows:
            source, index = next((p, at[question]) for p, at in self._prefilled if question in at)
            self._prefix = device.place(
                self._prefix,
                source,
                jnp.int32(row),
                jnp.int32(index),
                layout=self._engine.layout,
            )

    def _prefill(self) -> list[int]:
        engine = self._engine
        # Two shapes: many prompts, and a quarter for the few questions of a late round.
        multiple = engine.layout.row_multiple
        most = min(self._ladder[0][0], round_up(_PROMPTS, multiple))
        few = round_up(-(-most // 4), multiple)
        questions, self._order = self._order[:most], self._order[most:]
        tokens = np.zeros((few if len(questions) <= few else most, engine.prompt_size), np.int32)
        valid = np.zeros(tokens.shape, bool)
        valid[:, -1] = True
        uniform = np.zeros((len(tokens), engine.num_samples, engine.sampler.draws), np.float32)
        for i, question in enumerate(questions):
            prompt = self._prompts[question][len(engine.opening) :]
            tokens[i, -len(prompt) :], valid[i, -len(prompt) :] = prompt, True
            for k in range(engine.num_samples):
                self._sample_draws[question, k] = self._draws.of(question, k)
                uniform[i, k] = self._sample_draws[question, k][0]
        prefix, logits = prefill(
            self._weights,
            self._put(np.array(engine.opening, np.int32), None),
            self._put(tokens, "rows", None),
            self._put(valid, "rows", None),
            config=engine.config,
            layout=engine.layout,
            cache_dtype=engine.cache_dtype,
        )
        first, nats = device.first_tokens(
            logits,
            self._put(uniform, "rows", None, None),
            sampler=engine.sampler,
            layout=engine.layout,
        )
        self._prefilled.append((prefix, {q: i for i, q in enumerate(questions)}))
        drawn = len(questions) * engine.num_samples
        self._usage.useful += drawn
        self._usage.computed += drawn
        first, nats = (np.asarray(x)[: len(questions)] for x in (first, nats))
        return self.schedule.begin(questions, first, nats)

    def _start(self) -> None:
        """The first grid: the smallest that holds all samples at once, or the largest."""
        counts = self.schedule.waiting_counts()
        fits = [(b, k) for b, k in self._ladder if sum(-(-n // k) for n in counts) <= b]
        b, width = min(fits, key=math.prod) if fits and not self._order else self._ladder[0]
        self._grid = Grid.empty(b, width)
        prefix, at = self._prefilled[0]
        rows, later = np.zeros(b, np.int32), []
        for row, question in self.schedule.fill(self._grid):
            if question in at:
                rows[row] = at[question]
            else:
                later.append((row, question))
        self._prefix, self._cache = device.start(
            prefix,
            self._put(rows, "rows"),
            cells=width,
            slots=round_up(max(self._engine.max_new_tokens - 1, 1), SEGMENT),
            layout=self._engine.layout,
        )
        self._place(later)

    def decode(self) -> bool:
        """Starts a segment on the device; False where no sample is left to decode."""
        if self._grid is None or not self._grid.live.any():
            return False
        engine, grid, schedule = self._engine, self._grid, self.schedule
        shape = grid.question.shape
        last, age, left = (np.zeros(shape, np.int32) for _ in range(3))
        uniform = np.zeros((SEGMENT, *shape, engine.sampler.draws), np.float32)
        for at in zip(*np.nonzero(grid.live), strict=True):
            of = int(grid.question[at]), int(grid.sample[at])
            count = schedule.count[of]
            last[at], age[at] = schedule.tokens[of][count - 1], count
            left[at] = engine.max_new_tokens - count
            draws = self._sample_draws[of][count : count + SEGMENT]
            uniform[(slice(len(draws)), *at)] = draws
        self._cache, self._tokens, self._nats = device.decode(
            self._weights,
            self._prefix,
            self._cache,
            device.Cells(*(self._put(x, "rows", None) for x in (last, age, left))),
            self._put(uniform, None, "rows", None, None),
            jnp.int32(self._time),
            jnp.int32(self._enough()),
            sampler=engine.sampler,
            end_tokens=engine.end_tokens,
            config=engine.config,
            layout=engine.layout,
        )
        return True

    def _enough(self) -> int:
        """How many samples still decode when the host can put the idle cells to use."""
        live, cells = int(self._grid.live.sum()), self._grid.live.size
        if self._order or self.schedule.waiting:
            return max(live - max(1, cells // _REFILL), 0)
        smaller = [b * k for b, k in self._ladder if b * k < cells]
        return min(max(smaller), live - 1) if smaller else 0

    def collect(self) -> tuple[int, list[int]]:
        """Waits for the segment; its useful tokens, and questions whose samples have all ended."""
        new = np.asarray(self._tokens)
        steps, useful = int((new >= 0).any((1, 2)).sum()), int((new >= 0).sum())
        self._time += steps
        self._usage.useful += useful
        self._usage.computed += steps * self._grid.live.size
        return useful, self.schedule.take(self._grid, new, np.asarray(self._nats))
