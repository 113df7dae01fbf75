"""Rotary position embedding: angles for positions, and the rotation of queries and keys."""

import jax
import jax.numpy as jnp
import numpy as np

from pmc_jax.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_dim: int, *, long: bool = False) -> np.ndarray:
    """Computes the angle in radians per token for each rotated pair of channels.

    Args:
        head_dim: number of channels per head.
        long: whether the sequence is longer than `rope.original_max_positions`. The value matters
            only for `longrope`.

    Returns:
        The angles f32[R / 2] for R rotated channels (`rope.rotary_dim`, or all channels). The angle
        of pair i is `theta ** (-2i / R)`, scaled by the rule of `rope.kind`.
    """
    size = rope.rotary_dim or head_dim
    exponent = np.arange(0, size, 2, dtype=np.float64) / size
    frequency = rope.theta**-exponent
    if rope.kind == "linear":
        frequency = frequency / rope.factor
    elif rope.kind == "longrope":
        frequency = frequency / np.asarray(rope.long_factors if long else rope.factors)
    elif rope.kind == "llama3":
        wave_length = 2 * np.pi / frequency
        ramp = rope.original_max_positions / wave_length - rope.low_freq_factor
        keep = np.clip(ramp / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0)
        frequency = keep * frequency + (1 - keep) * frequency / rope.factor
    return frequency.astype(np.float32)


def rotation(
    rope: RopeConfig, head_dim: int, positions: jax.Array, length: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes the cosines and sines for `rotate`, multiplied by `rope.magnitude`.

    Args:
        head_dim: number of channels per head.
        positions: i32[...], positions in tokens.
        length: i32, number of tokens in the sequence, broadcast over `positions`. The value matters
            only for `longrope`.

    Returns:
        The cosines and the sines, f32[..., R / 2] each, for R rotated channels.
    """
    frequency = inverse_frequencies(rope, head_dim)
    if rope.kind == "longrope":
        long = (length > rope.original_max_positions)[..., None]
        frequency = jnp.where(long, inverse_frequencies(rope, head_dim, long=True), frequency)
    angle = positions[..., None].astype(jnp.float32) * frequency
    return rope.magnitude * jnp.cos(angle), rope.magnitude * jnp.sin(angle)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the first R channels of each head, in pairs of the channels i and i + R / 2.

    These are the pairs of Hugging Face checkpoints.

    Args:
        x: [..., heads, head_dim] in any float dtype. Channels after the first R stay unchanged.
        cos, sin: f32[..., R / 2], broadcast over heads.

    Returns:
        The rotated array, in the dtype of `x`.
    """
    half = cos.shape[-1]
    rotated, rest = jnp.split(x, (2 * half,), axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    rotated = jax.lax.platform_dependent(rotated, cos, sin, cpu=_reversed, default=_multiplied)
    return jnp.concatenate([rotated, rest], axis=-1) if rest.shape[-1] else rotated


def _reversed(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Implements `rotate` for CPUs: swaps the two halves of the channels by a reversal.

    XLA on CPU fuses a reversal with other operations, but not a concatenation.
    """
    pair = x.astype(jnp.float32).reshape(*x.shape[:-1], 2, -1)
    sin = jnp.stack([-sin, sin], axis=-2)
    return (pair * cos[..., None, :] + pair[..., ::-1, :] * sin).reshape(x.shape).astype(x.dtype)


def _multiplied(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Implements `rotate` with a permutation matrix, whose product is exact in any dtype.

    On TPU, an axis of two halves would be padded to twice its size, and operations that move lanes
    are not fused.
    """
    half = x.shape[-1] // 2
    turn = np.roll(np.eye(2 * half), half, axis=1).astype(x.dtype)
    turned = jax.lax.dot_general(
        x,
        turn,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )
    cos, sin = jnp.concatenate([cos, cos], -1), jnp.concatenate([-sin, sin], -1)
    return (x.astype(jnp.float32) * cos + turned * sin).astype(x.dtype)
