"""Computes the log-probabilities of given tokens in packed rows of many sequences.

Axis letters: R rows, S tokens, A scored positions per row, P prefix tokens, D hidden size, V
vocabulary size.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.distributed import multihost
from pmc_jax.distributed.mesh import Layout, round_up
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, hidden_states, logits
from pmc_jax.training.chunks import map_positions
from pmc_jax.training.packing import PackedRows

# Minimum length of a row, so that short sequences share a row.
_ROW_TOKENS = 256
_BATCH_TOKENS = 2048
# Capacity of a row for scored tokens, as a multiple of the mean.
_SPARE = 1.1
# Number of positions per row whose logits are in memory at a time.
_POSITIONS_A_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Scores of n tokens in one sequence under a model.

    Attributes:
        logp: natural logarithm of each token's probability given all earlier tokens, f32[n].
        is_argmax: whether no other token is more likely at this position, bool[n].
        min_k_plus_z: score of Min-K++ (arXiv 2404.02936), (logp - m) / s, f32[n]. Here, m and s are
            the mean and the standard deviation of the log-probability under the model's next-token
            distribution, and s is at least 1e-3.
    """

    logp: np.ndarray
    is_argmax: np.ndarray
    min_k_plus_z: np.ndarray


def token_scores(
    model: Decoder,
    config: DecoderConfig,
    layout: Layout,
    sequences: Sequence[TokenSequence],
    *,
    dtype: jnp.dtype,
) -> list[TokenScores]:
    """Scores the tokens of each sequence from index max(`sequence.begin`, 1) to the end.

    Args:
        model: weights of the model.
        config: configuration of the decoder.
        layout: mesh and sharding rules of the weights.
        sequences: the sequences to score.
        dtype: dtype of activations and products. Reductions over the vocabulary use float32.

    Returns:
        The scores of each sequence, in the order of the sequences.
    """
    if not sequences:
        return []
    prefix = shared_prefix([s.tokens[: max(s.begin, 1)].tolist() for s in sequences])
    own = [len(s) - len(prefix) for s in sequences]
    scored = [len(s) - max(s.begin, 1) for s in sequences]
    size = max(_ROW_TOKENS, round_up(max(own), 128))
    # `share * size` is `_SPARE` times the expected number of scored tokens in a full row.
    share = min(1.0, _SPARE * sum(scored) / sum(own))
    slots = round_up(max(int(share * size), *scored), 32)
    rows = round_up(max(1, _BATCH_TOKENS // size), layout.row_multiple)
    batches = _assign_rows(sequences, len(prefix), rows, size, slots)
    # The last batch may be short. The smallest number of rows is chosen with which the number of
    # batches stays the same.
    last = 1 + max(row for _, row, _ in batches[-1])
    least = -(-((len(batches) - 1) * rows + last) // len(batches))
    for fewer in range(round_up(least, layout.row_multiple), rows, layout.row_multiple):
        packed = _assign_rows(sequences, len(prefix), fewer, size, slots)
        if len(packed) == len(batches):
            rows, batches = fewer, packed
            break
    scores: list[TokenScores | None] = [None] * len(sequences)
    for placements in batches:
        packed = PackedRows(rows, size, slots, len(prefix))
        spans = [packed.add(sequences[i], row, start) for i, row, start in placements]
        arrays = (layout.put(x, "rows", None) for x in packed.arrays())
        static = dict(config=config, layout=layout, dtype=dtype)
        results = _score(model, layout.put(prefix, None), *arrays, **static)
        results = [multihost.host_array(x) for x in results]
        for (i, row, _), span in zip(placements, spans, strict=True):
            scores[i] = TokenScores(*(x[row, span] for x in results))
    return scores


def _assign_rows(
    sequences: Sequence[TokenSequence], prefix_length: int, rows: int, size: int, slots: int
) -> list[list[tuple[int, int, int]]]:
    """Assigns sequences to rows of batches, longest first.

    Each sequence is placed in the first row with space for its tokens and its scored tokens.

    Args:
        sequences: the sequences to assign.
        prefix_length: number of leading tokens that the rows leave out.
        rows: number of rows per batch.
        size: maximum number of tokens per row.
        slots: maximum number of scored tokens per row.

    Returns:
        A list of (sequence, row, start) for each batch, where `sequence` is an index in `sequences`
        and `start` is the index in the row at which the sequence starts.
    """
    batches = []
    waiting = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    while waiting:
        used, limits = np.zeros((rows, 2), int), np.array([size, slots])
        placements, later = [], []
        for i in waiting:
            length, first = len(sequences[i]), max(sequences[i].begin, 1)
            need = np.array([length - prefix_length, length - first])
            fits = np.nonzero((used + need <= limits).all(1))[0]
            if len(fits):
                placements.append((i, int(fits[0]), int(used[fits[0], 0])))
                used[fits[0]] += need
            else:
                later.append(i)
        batches.append(placements)
        waiting = later
    return batches


@functools.partial(jax.jit, static_argnames=("config", "layout", "dtype"))
def _score(
    model, prefix, tokens, positions, segments, answer_positions, targets, *, config, layout, dtype
):
    """Computes the three fields of `TokenScores` for packed rows, each as a replicated array [R,A].

    The arguments include the prefix and the arrays of `PackedRows`.
    """
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
    hidden = jnp.take_along_axis(hidden, answer_positions[..., None], axis=1)

    def score(hidden, targets):
        scores = logits(model, config, hidden, layout)
        peak = jnp.max(scores, axis=-1, keepdims=True)
        logp = scores - peak - jnp.log(jnp.sum(jnp.exp(scores - peak), axis=-1, keepdims=True))
        p = jnp.exp(logp)
        mean = jnp.sum(p * logp, axis=-1)
        variance = jnp.sum(p * (logp - mean[..., None]) ** 2, axis=-1)
        # A gather would move logits that are sharded by vocabulary, so a comparison is used.
        is_target = targets[..., None] == jnp.arange(logp.shape[-1])
        own = jnp.sum(jnp.where(is_target, logp, 0.0), axis=-1)
        return (
            own,
            own >= jnp.max(logp, axis=-1),
            (own - mean) / jnp.sqrt(jnp.maximum(variance, 1e-6)),
        )

    results = map_positions(score, _POSITIONS_A_CHUNK, hidden, targets)
    return [layout.constrain(x, None, None) for x in results]
