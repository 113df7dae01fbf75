"""Tiny decoder with prompts and training rows, for tests in one process and in tests/devices."""

import math
import sys

import jax
import numpy as np

from pmc_jax.data.encode import TokenSequence, shared_prefix
from pmc_jax.distributed.mesh import SAMPLE_RULES, TRAIN_RULES, Layout, layout, make_mesh
from pmc_jax.models.config import DecoderConfig
from pmc_jax.models.decoder import Decoder, init
from pmc_jax.training.batch import TrainBatch
from pmc_jax.training.packing import Packer

# Some meshes of eight devices can shard two key/value heads and a vocabulary of 13 x 8, and other
# meshes cannot.
TINY = DecoderConfig(104, 32, 48, num_layers=2, num_heads=8, num_kv_heads=2, head_dim=8)
# Every test run uses these meshes: eight devices, two slices of two devices, and two devices.
MESHES = ((2, 2, 2), (1, 1, 8), (2, 1, 2, 1), (1, 2, 1))
# These are all data x fsdp x tensor meshes of eight devices, and meshes of two slices or of one,
# two or four devices.
ALL_MESHES = (
    *((8 // (f * t), f, t) for f in (1, 2, 4, 8) for t in (1, 2, 4, 8) if f * t <= 8),
    *((2, 4, 1, 1), (2, 1, 4, 1), (2, 2, 1, 2), (2, 1, 1, 4), (2, 1, 2, 2)),
    *((2, 1, 1), (1, 2, 1), (1, 1, 2), (4, 1, 1), (1, 4, 1), (1, 1, 4), (1, 2, 2), (2, 2, 1)),
)


def meshes() -> tuple[tuple[int, ...], ...]:
    """Returns the meshes for a script in tests/devices: all of them after the argument `all`."""
    return ALL_MESHES if sys.argv[1:] == ["all"] else MESHES


NO_END = TINY.vocab_size + 1  # No model can generate this end token.


def train_layout(sizes: tuple[int, ...] = (1, 1, 1)) -> Layout:
    """Returns a layout for training.

    Args:
        sizes: mesh sizes (data, fsdp, tensor) or (slices, data, fsdp, tensor).
    """
    slices, *inner = sizes if len(sizes) == 4 else (1, *sizes)
    devices = jax.devices()[: math.prod(sizes)]
    return layout(make_mesh(*inner, slices=slices, devices=devices), TRAIN_RULES)


def sample_layout(sizes: tuple[int, ...] = (1, 1, 1)) -> Layout:
    return layout(train_layout(sizes).mesh, SAMPLE_RULES)


def tiny_model(on: Layout, *, scale: float = 0.3) -> Decoder:
    """Returns a decoder with clearly different logits, whose weights are the same on every mesh."""
    return init(TINY, jax.random.key(0), on, scale=scale)


def prompts(count: int = 6, seed: int = 0) -> list[list[int]]:
    """Returns random prompts of 1 to 12 tokens."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, TINY.vocab_size, n).tolist() for n in rng.integers(1, 13, count)]


def sequences(count: int, seed: int = 0, prefix: int = 3) -> list[TokenSequence]:
    """Returns random token sequences with a common prefix.

    After `prefix` common tokens, each sequence has 2 to 6 question tokens and 1 to 7 answer tokens.
    """
    rng = np.random.default_rng(seed)
    start = np.arange(1, prefix + 1)
    out = []
    for _ in range(count):
        question, answer = rng.integers(2, 7), rng.integers(1, 8)
        own = rng.integers(prefix + 1, TINY.vocab_size, question + answer)
        out.append(
            TokenSequence(np.concatenate([start, own]).astype(np.int32), prefix + int(question))
        )
    return out


def packer(rows: list[TokenSequence], row_multiple: int = 1) -> Packer:
    prefix = shared_prefix([s.tokens[: s.begin].tolist() for s in rows])
    return Packer(prefix, rows=max(2, row_multiple))


def two_terms(
    count: int = 8, *, row_multiple: int = 1, micro_batches: int = 1, seed: int = 0
) -> TrainBatch:
    """Returns a host batch of forget and retain rows, whose second forget row has weight 0."""
    rows = sequences(2 * count, seed)
    terms = [rows[:count], rows[count:]]
    weights = [[1.0, 0.0, *[1.0] * (count - 2)], [1.0] * count]
    return packer(rows, row_multiple).pack(
        terms, (1.0, 1.25), weights=weights, micro_batches=micro_batches
    )
