"""Log-probabilities of given tokens, many sequences at once: packed rows through one program.

Axis letters: R rows, S tokens, A scored positions a row, P prefix, D hidden, V vocabulary. It knows
no text.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.distributed import multihost
from pmc_jax.distributed.mesh import Layout, round_up
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, hidden_states, logits

_ROW_TOKENS = 256  # a row holds at least this many, so that short sequences share one
_BATCH_TOKENS = 2048
_SPARE = 1.1  # places for scored tokens above the mean
_POSITIONS_A_CHUNK = 16  # logits of so many positions a row exist at a time


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """What a model thinks of the scored tokens of one sequence.

    Attributes:
        logp: f32[n], natural logarithm of the probability of each token, given all before it.
        hit: bool[n], whether no token is more likely.
        z: f32[n], logp as standard deviations from its mean, both under the model's distribution
            (Min-K++, arXiv 2404.02936); the deviation is at least 1e-3.
    """

    logp: np.ndarray
    hit: np.ndarray
    z: np.ndarray


def token_scores(
    model: Decoder,
    config: DecoderConfig,
    layout: Layout,
    sequences: Sequence[TokenSequence],
    *,
    dtype: jnp.dtype,
    progress: Callable[[int], None] = lambda sequences: None,
) -> list[TokenScores]:
    """Scores the tokens of each sequence from `begin` on (at least from 1).

    Args:
        dtype: of activations and products; reductions over the vocabulary are float32.
        progress: called with the number of sequences that are done since.
    """
    if not sequences:
        return []
    prefix = shared_prefix([s.tokens[: max(s.begin, 1)].tolist() for s in sequences])
    own = [len(s) - len(prefix) for s in sequences]
    scored = [len(s) - max(s.begin, 1) for s in sequences]
    size = max(_ROW_TOKENS, round_up(max(own), 128))
    # A row that is full of tokens has about so many that are scored.
    share = min(1.0, _SPARE * sum(scored) / sum(own))
    slots = round_up(max(int(share * size), *scored), 32)
    rows = round_up(max(1, _BATCH_TOKENS // size), layout.row_multiple)
    batches = _batches(sequences, len(prefix), rows, size, slots)
    # The last batch may be short: as few rows are taken as do with so many batches.
    last = 1 + max(row for _, row, _, _ in batches[-1].places)
    least = -(-((len(batches) - 1) * rows + last) // len(batches))
    for fewer in range(round_up(least, layout.row_multiple), rows, layout.row_multiple):
        packed = _batches(sequences, len(prefix), fewer, size, slots)
        if len(packed) == len(batches):
            rows, batches = fewer, packed
            break
    found: list[TokenScores | None] = [None] * len(sequences)
    for batch in batches:
        arrays = batch.arrays(sequences, len(prefix), (rows, size, slots))
        placed = [layout.put(x, "rows", None) for x in arrays]
        scored = _score(
            model,
            layout.put(prefix, None),
            *placed,
            config=config,
            layout=layout,
            dtype=dtype,
        )
        logp, hit, z = (multihost.host_array(x) for x in scored)
        for i, row, _, slot in batch.places:
            at = slice(slot, slot + len(sequences[i]) - max(sequences[i].begin, 1))
            found[i] = TokenScores(logp[row, at], hit[row, at], z[row, at])
        progress(len(batch.places))
    return found


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Places of sequences: (which, row, first token, first slot)."""

    places: list[tuple[int, int, int, int]]

    def arrays(
        self, sequences: Sequence[TokenSequence], skip: int, shape: tuple[int, int, int]
    ) -> list[np.ndarray]:
        """tokens, positions, segments i32[R,S]; at, targets i32[R,A]."""
        rows, size, slots = shape
        tokens, positions, segments = (np.zeros((rows, size), np.int32) for _ in range(3))
        at, targets = (np.zeros((rows, slots), np.int32) for _ in range(2))
        for i, row, begin, slot in self.places:
            sequence, first = sequences[i], max(sequences[i].begin, 1)
            own = sequence.tokens[skip:]
            where = slice(begin, begin + len(own))
            tokens[row, where], segments[row, where] = own, i + 1
            positions[row, where] = skip + np.arange(len(own))
            scored = slice(slot, slot + len(sequence) - first)
            at[row, scored] = begin + first - skip - 1 + np.arange(len(sequence) - first)
            targets[row, scored] = sequence.tokens[first:]
        return [tokens, positions, segments, at, targets]


def _batches(
    sequences: Sequence[TokenSequence], skip: int, rows: int, size: int, slots: int
) -> list[_Batch]:
    """Longest first, each into the first row of the batch that has room."""
    found = []
    waiting = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    while waiting:
        used, taken = np.zeros((rows, 2), int), np.array([size, slots])
        places, later = [], []
        for i in waiting:
            sequence = sequences[i]
            need = np.array([len(sequence) - skip, len(sequence) - max(sequence.begin, 1)])
            fits = np.nonzero((used + need <= taken).all(1))[0]
            if len(fits):
                places.append((i, int(fits[0]), *map(int, used[fits[0]])))
                used[fits[0]] += need
            else:
                later.append(i)
        found.append(_Batch(places))
        waiting = later
    return found


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype"))
def _score(model, prefix, tokens, positions, segments, at, targets, *, config, layout, dtype):
    """f32[R,A], bool[R,A], f32[R,A], whole on every device."""
    hidden = hidden_states(
        model,
        config,
        layout,
        tokens,
        positions,
        segments,
        prefix=prefix if prefix.size else None,
        dtype=dtype,
        remat="none",
    )
    hidden = jnp.take_along_axis(hidden, at[..., None], axis=1)

    def chunk(part):
        h, target = part
        scores = logits(model, config, h, layout)
        peak = jnp.max(scores, axis=-1, keepdims=True)
        logp = scores - peak - jnp.log(jnp.sum(jnp.exp(scores - peak), axis=-1, keepdims=True))
        p = jnp.exp(logp)
        mean = jnp.sum(p * logp, axis=-1)
        variance = jnp.sum(p * (logp - mean[..., None]) ** 2, axis=-1)
        # By comparison: a gather along a sharded vocabulary would move the logits.
        is_target = target[..., None] == jnp.arange(logp.shape[-1])
        own = jnp.sum(jnp.where(is_target, logp, 0.0), axis=-1)
        return (
            own,
            own >= jnp.max(logp, axis=-1),
            (own - mean) / jnp.sqrt(jnp.maximum(variance, 1e-6)),
        )

    def split(x):
        x = x.reshape(x.shape[0], -1, _POSITIONS_A_CHUNK, *x.shape[2:])
        return jnp.moveaxis(x, 1, 0)

    found = jax.lax.map(chunk, (split(hidden), split(targets)))
    join = [jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1) for x in found]
    return [layout.constrain(x, None, None) for x in join]
